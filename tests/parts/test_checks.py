from __future__ import annotations

import pytest

from equipoise.parts.checks import check_choice, check_not_negative, check_positive


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
