from __future__ import annotations

import pytest

from equipoise.benchmarks.problem import load_problem
from equipoise.benchmarks.problems import PROBLEMS, find_problem
from equipoise.benchmarks.refusal import RequestError


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_is_found_under_its_own_name(name):
    assert find_problem(name).name == name


def test_a_users_problem_is_found_as_module_and_function():
    assert find_problem("tests.benchmarks.small:problem").losses == ("near", "far")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_such_module:problem", "cannot be imported"),
        ("tests.benchmarks.small:absent", "no function 'absent'"),
        ("tests.benchmarks.small:", "no function ''"),
        ("tests.benchmarks.small:not_a_problem", "returned str"),
        ("json:dumps", "without arguments"),
    ],
)
def test_what_is_no_problem_is_refused_with_the_reason(reference, message):
    with pytest.raises(RequestError, match=message):
        load_problem(reference)


def test_a_misspelt_problem_is_answered_with_the_nearest():
    with pytest.raises(RequestError, match="Did you mean 'digits'"):
        find_problem("digit")
