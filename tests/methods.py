"""Every method of the registry, ready to run in a few steps, for batteries over all of them."""

from __future__ import annotations

import torch

import equipoise as eq
from equipoise.balancer import Balancer

NAMES = eq.list_balancers()
LOSSES = ["a", "b", "c"]

# What a method needs to be built, or to leave its warm-up within a few steps.
OPTIONS: dict[str, dict[str, object]] = {
    "dwa": {"window": 1},
    "famo": {"after": "next_batch"},
    "fixed": {"weights": [0.5, 1.0, 2.0, 0.3, 0.7, 1.1, 0.9, 1.3]},
    "softadapt": {"order": 1},
}


def make(name: str, losses: list[str] | None = None, **options: object) -> Balancer:
    losses = LOSSES if losses is None else losses
    chosen = {**OPTIONS.get(name, {}), **options}
    if name == "fixed":
        given = dict(zip("abcdefgh", chosen["weights"], strict=True))
        chosen["weights"] = {loss: given[loss] for loss in losses}
    balancer = eq.create_balancer(name, losses, **chosen)
    if isinstance(balancer, eq.NTKTrace):
        diagonals = dict(zip("abcdefgh", [3.0, 1.0, 0.2, 0.5, 2.0, 4.0, 0.7, 0.9], strict=True))
        balancer.observe({loss: diagonals[loss] for loss in losses})
    if isinstance(balancer, eq.DynamicTaskPrioritization):
        kpis = dict(zip("abcdefgh", [0.3, 0.5, 0.8, 0.6, 0.4, 0.2, 0.7, 0.9], strict=True))
        balancer.observe({loss: kpis[loss] for loss in losses})
    return balancer


def combined(balancer: Balancer, values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The combined gradient, of whichever kind the method is."""
    return balancer.combine(values, eq.Gradients(rows))


def tensors_of(balancer: Balancer) -> dict[str, torch.Tensor]:
    """The state that formulas read and write: no step count, names or generator."""
    beside = ("calls", "loss_names", "generator_state")
    return {k: v for k, v in balancer.state_dict().items() if not k.endswith(beside)}


def of_kind(**wanted: object) -> list[str]:
    """The methods that declare all of these."""
    return [
        name
        for name in NAMES
        if all(getattr(make(name), key) == value for key, value in wanted.items())
    ]


def steps(
    count: int, losses: int = 3, width: int = 7, seed: int = 0, dtype: torch.dtype = torch.float64
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Values that fall and wander, and generic gradients, some in conflict."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    scales = torch.logspace(-0.5, 0.5, losses, dtype=torch.float64)
    base = draw(losses, width)
    made = []
    for step in range(count):
        values = scales * torch.exp(-0.1 * step + 0.2 * draw(losses))
        rows = scales[:, None] * (base + 0.7 * draw(losses, width))
        made.append((values.to(dtype), rows.to(dtype)))
    return made
