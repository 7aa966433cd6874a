"""A priority changes the balance, or the method's docstring says that none does."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from equipoise.balancer import Balancer
from equipoise.weighting import FirstValue
from tests.methods import LOSSES, NAMES, make

_SAYS_SO = "do not change the balance"
_TURNED = 1e-2
"""By how much the cosine of two directions falls short of one where a priority counts."""


def directions(balancer: Balancer) -> torch.Tensor:
    """``[steps, P]``: the gradients of a short training with losses of different scale."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    trunk, heads = torch.nn.Parameter(draw(6, 5)), [draw(5, 4) for _ in LOSSES]
    targets = [scale * draw(8, 4) for scale in (1.0, 3.0, 0.5)]
    optimizer, found = torch.optim.SGD([trunk], lr=1e-3), []
    for step in range(6):
        shared = torch.tanh(draw(8, 6) @ trunk)
        pairs = zip(LOSSES, heads, targets, strict=True)
        losses = {name: (shared @ head - target).square().mean() for name, head, target in pairs}
        optimizer.zero_grad()
        torch.manual_seed(step)
        balancer.backward(losses)
        found.append(trunk.grad.flatten().clone())
        optimizer.step()
    return torch.stack(found)


def turned_by_a_priority(name: str, scale: str | None) -> bool:
    plain = directions(make(name, scale=scale))
    for loss in LOSSES:
        with_priority = directions(make(name, scale=scale, priorities={loss: 0.02}))
        if (1 - cosine_similarity(plain, with_priority)).max() > _TURNED:
            return True
    return False


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("scale", [None, "first_value"])
@pytest.mark.parametrize("name", NAMES)
def test_a_priority_counts_or_the_docstring_says_that_it_does_not(name, scale):
    words = " ".join((type(make(name)).__doc__ or "").split())
    assert turned_by_a_priority(name, scale) == (_SAYS_SO not in words)


def test_a_loss_divided_by_its_first_value_counts_with_its_priority():
    balancer = FirstValue(["a", "b"], priorities={"b": 2.0})
    a, b = (torch.tensor(value, requires_grad=True) for value in (4.0, 0.5))
    for factor in (1.0, 0.3):  # what was first stays first
        balancer.backward({"a": factor * a, "b": factor * b})
        assert balancer.weights == {"a": 0.25, "b": 4.0}
