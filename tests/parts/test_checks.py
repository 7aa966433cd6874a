from __future__ import annotations

import math

import pytest
import torch

from equipoise.parts.checks import (
    check_choice,
    check_not_negative,
    check_positive,
    check_shares,
    check_steps,
    check_within,
)


def test_a_choice_that_does_not_exist_is_refused_with_those_that_do():
    check_choice("form", "plain", ("plain", "log"))
    with pytest.raises(ValueError, match="`form` is 'exp'; write 'plain' or 'log'"):
        check_choice("form", "exp", ("plain", "log"))


@pytest.mark.parametrize("number", [0.0, -1.0, float("nan")])
def test_a_number_that_is_not_positive_is_refused_by_name(number):
    with pytest.raises(ValueError, match=f"`eps` is {number}"):
        check_positive(scale=1.0, eps=number)


def test_zero_is_not_negative_but_minus_one_and_nan_are_refused():
    check_not_negative(start=0)
    for number in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"`start` is {number}"):
            check_not_negative(start=number)


@pytest.mark.parametrize(
    ("closed", "inside", "outside", "interval"),
    [
        ("both", [0, 0.5, 1], [-0.1, 1.1, math.nan], r"\[0, 1\]"),
        ("low", [0, 0.5], [-0.1, 1, math.nan], r"\[0, 1\)"),
        ("high", [0.5, 1], [0, 1.1, math.nan], r"\(0, 1\]"),
        ("neither", [0.5], [0, 1, math.nan], r"\(0, 1\)"),
    ],
)
def test_a_number_outside_an_interval_is_refused_with_the_interval(
    closed, inside, outside, interval
):
    for number in inside:
        check_within(0, 1, closed=closed, beta=number)
    for number in outside:
        with pytest.raises(ValueError, match=f"`beta` is {number}; it must lie in {interval}"):
            check_within(0, 1, closed=closed, beta=number)


def test_an_interval_without_end_excludes_infinity():
    check_within(0, math.inf, closed="low", c=1e300)
    with pytest.raises(ValueError, match=r"`c` is inf; it must lie in \[0, inf\)"):
        check_within(0, math.inf, closed="low", c=math.inf)


def test_no_number_of_steps_is_fine_and_zero_steps_are_refused():
    check_steps(window=None)
    check_steps(window=1)
    with pytest.raises(ValueError, match="`window` is 0; it is a number of steps"):
        check_steps(window=0)


def test_shares_are_not_negative_and_not_all_zero_unless_that_is_allowed():
    check_shares("p", torch.tensor([0.0, 1.0]))
    check_shares("p", torch.zeros(2), all_zero=True)
    for numbers in ([0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match=r"`p` is .* no negative number and not only zeros"):
            check_shares("p", torch.tensor(numbers))
    with pytest.raises(ValueError, match="no entry may be negative"):
        check_shares("p", torch.tensor([1.0, -1.0]), all_zero=True)
