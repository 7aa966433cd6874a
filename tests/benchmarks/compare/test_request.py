from __future__ import annotations

import pytest

from equipoise.benchmarks.compare.request import TrainingOptions, parse_seeds
from equipoise.benchmarks.refusal import RequestError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1", (0,)), ("4", (0, 1, 2, 3)), ("3,8", (3, 8)), ("7,", (7,)), (" 2, 1 ,2", (2, 1))],
)
def test_seeds_are_a_count_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1.5", ",", "1,b"])
def test_other_seeds_are_refused_with_what_to_write(text):
    with pytest.raises(RequestError, match="--seeds is"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": 0}, "--batch-size"),
        ({"lr": 0.0}, "--lr"),
        ({"lr": float("nan")}, "--lr"),
        ({"lr": float("inf")}, "--lr"),
    ],
)
def test_options_out_of_range_are_named_as_on_the_command_line(wrong, option):
    with pytest.raises(RequestError, match=option):
        TrainingOptions(**{"epochs": 1, "batch_size": 1, "lr": 0.1, **wrong})
