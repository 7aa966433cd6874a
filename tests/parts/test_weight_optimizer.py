from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.parts.weight_optimizer import WeightOptimizer
from equipoise.state import Stateful


class Owner(Stateful):
    def __init__(self, count: int) -> None:
        super().__init__(tuple(map(str, range(count))))
        self.state("numbers", torch.ones(count))


@given(st.sampled_from(["adam", "sgd"]), st.floats(1e-4, 1.0), st.sampled_from([0.0, 0.1]))
def test_steps_are_those_of_torch_optim(rule, lr, weight_decay) -> None:
    owner = Owner(3)
    mine = WeightOptimizer(owner, rule, lr, weight_decay=weight_decay)
    owner.double()
    numbers = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    theirs = torch.nn.Parameter(numbers.clone())
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[rule]
    optimizer = kind([theirs], lr=lr, weight_decay=weight_decay)
    for _ in range(5):
        gradient = torch.randn(3, dtype=torch.float64)
        theirs.grad = gradient.clone()
        optimizer.step()
        numbers = mine.descend(owner, numbers, gradient)
        torch.testing.assert_close(numbers, theirs.detach(), rtol=1e-12, atol=1e-12)


def test_moments_of_an_absent_loss_rest() -> None:
    owner = Owner(3)
    optimizer = WeightOptimizer(owner, "adam", 0.1)
    optimizer.descend(owner, torch.ones(3), torch.ones(3))
    with owner.among((0, 2)):
        optimizer.descend(owner, torch.ones(2), torch.ones(2))
    assert owner.get_buffer("optimizer_steps").tolist() == [2.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("rule", "lr", "says"), [("adamw", 0.1, "'adam' or 'sgd'"), ("sgd", 0.0, "`lr` is 0.0")]
)
def test_unknown_rules_and_rates_are_refused(rule, lr, says) -> None:
    with pytest.raises(ValueError, match=says):
        WeightOptimizer(Owner(1), rule, lr)
