"""A method led through a golden trajectory, detached and on a live graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from equipoise import Gradients
from equipoise.aggregation.base import Aggregation
from tests.golden import Golden, assert_matches, tensor


def seen(step: Mapping[str, Any]) -> tuple[Tensor, Gradients]:
    """What a step feeds: values (ones where the golden has none) and gradients."""
    rows = tensor(step["jacobian"])
    values = tensor(step["losses"]) if "losses" in step else torch.ones(len(rows)).double()
    return values, Gradients(rows)


def follow_weights(golden: Golden, balancer: Aggregation) -> None:
    for i, step in enumerate(golden.steps):
        assert_matches(golden, balancer.weigh(*seen(step)), step["weights"], f"step {i} weights")


def follow_gradient(golden: Golden, balancer: Aggregation) -> None:
    for i, step in enumerate(golden.steps):
        assert_matches(golden, balancer.combine(*seen(step)), step["gradient"], f"step {i}")


def live(values: Tensor, rows: Tensor) -> tuple[list[Tensor], Tensor]:
    """Losses with these values, and the one parameter at which these are their gradients."""
    theta = torch.zeros(rows.shape[1], dtype=rows.dtype, requires_grad=True)
    return [value + row @ theta for value, row in zip(values, rows, strict=True)], theta


def follow_live(golden: Golden, balancer: Aggregation) -> None:
    """The same by `backward`, with losses whose gradients are the golden's."""
    for i, step in enumerate(golden.steps):
        values, gradients = seen(step)
        losses, theta = live(values, gradients.matrix())
        balancer.backward(losses)
        assert_matches(golden, theta.grad, step["gradient"], f"step {i} live")


def independent(rows: int, columns: int, seed: int = 0) -> Tensor:
    """A float64 Jacobian with conflicts and norms of different size."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return matrix * torch.logspace(-1, 1, rows, dtype=torch.float64)[:, None]
