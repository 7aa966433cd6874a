from __future__ import annotations

import pytest
import torch

from equipoise.parts.weight_optimizer import WeightOptimizer, descend_where
from equipoise.state import Stateful
from tests.golden import tensor


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_numbers_that_rested_move_on_as_if_those_steps_had_not_been(rule):
    steps = [torch.randn(2).double() for _ in range(4)]
    some, all_of_them = Stateful(("a", "b")).double(), Stateful(("a", "b")).double()
    partial, whole = (WeightOptimizer(owner, rule, 0.1) for owner in (some, all_of_them))
    some.double()
    all_of_them.double()
    moved, expected = tensor([1.0, 1.0]), tensor([1.0, 1.0])
    for i, gradient in enumerate(steps):
        moving = torch.tensor([True, i >= 2])
        moved = descend_where(partial, some, moved, gradient, moving)
    for gradient in steps[2:]:
        expected = whole.descend(all_of_them, expected, gradient)
    torch.testing.assert_close(moved[1], expected[1])
    assert not torch.isclose(moved[0], expected[0])
