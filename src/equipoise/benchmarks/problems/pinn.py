"""What the physics-informed problems share: a small network, points, Adam and then L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from equipoise.benchmarks.problem import Problem, Trial

Field: TypeAlias = Callable[[Tensor], Tensor]
"""From points ``[N, 2]`` to values ``[N]``."""

FINAL_ITERATIONS = 300
"""Of L-BFGS, at the end."""

BALANCERS = ("equal", "right", "learningrateannealing", "relobralo", "gradnorm", "mtadam", "config")


@dataclass(frozen=True)
class Equation:
    """A partial differential equation on a rectangle of the plane.

    Args:
        corners: ``[2, 2]``, the lowest and the highest point.
        losses: From the network and some points inside, ``[N, 2]`` in the unit square: the mean
            squares of the residual and of each condition.
        exact: The solution.
        right_weights: Weights that were found by hand.
    """

    corners: Tensor
    losses: Callable[[Field, Tensor], Mapping[str, Tensor]]
    exact: Field
    right_weights: Mapping[str, float]

    def inside(self, unit: Tensor) -> Tensor:
        """Points of the rectangle for points of the unit square."""
        low, high = self.corners.unbind()
        return low + (high - low) * unit


class Network(nn.Module):
    """A perceptron with tangents, fed with coordinates between -1 and 1.

    Args:
        corners: ``[2, 2]`` of the rectangle.
        layers: How many hidden ones.
        width: Units of each.
    """

    corners: Tensor

    def __init__(self, corners: Tensor, layers: int = 4, width: int = 20) -> None:
        super().__init__()
        self.register_buffer("corners", corners)
        widths = [2, *([width] * layers)]
        affine = [nn.Linear(*pair) for pair in (*pairwise(widths), (width, 1))]
        for layer in affine:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        hidden = (part for layer in affine[:-1] for part in (layer, nn.Tanh()))
        self.layers = nn.Sequential(*hidden, affine[-1])

    def forward(self, points: Tensor) -> Tensor:
        """Values ``[N]`` at points ``[N, 2]``."""
        low, high = self.corners
        values: Tensor = self.layers(2 * (points - low) / (high - low) - 1)
        return values[:, 0]


def slopes(values: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives along both coordinates, with their graph.

    Args:
        values: ``[N]``, each made of its own point only.
        points: ``[N, 2]``, which require gradients.

    Returns:
        ``[N]`` each.
    """
    (found,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    return found[:, 0], found[:, 1]


def watched(points: Tensor) -> Tensor:
    """The points, so that `slopes` can be asked at them."""
    return points.detach().requires_grad_()


def physics(name: str, description: str, losses: tuple[str, ...], equation: Equation) -> Problem:
    """The problem of an equation.

    Args:
        name: The problem's.
        description: One sentence.
        losses: The names of what `Equation.losses` gives.
        equation: What is solved.

    Returns:
        A thousand steps of Adam, each with 128 new points for each loss, then L-BFGS on 512 points
        with the weights of the last step. The metric is the decimal logarithm of the relative
        error of the solution in the L2 norm, on a grid; in validation, on points drawn with the
        seed. Errors of one method spread over powers of ten, and means of them tell little more
        than the worst seed; a difference of logarithms is a factor.
    """
    return Problem(
        name=name,
        description=description,
        losses=losses,
        metric="log10 of the relative L2 error",
        higher_is_better=False,
        start=lambda seed: _start(seed, equation),
        batch_size=128,
        lr=2e-3,
        balancers=BALANCERS,
        labels={"equal": "plain sum", "right": "weights by hand"},
        steps=1000,
    )


def _start(seed: int, equation: Equation) -> Trial:
    network = Network(equation.corners)
    generator = torch.Generator().manual_seed(seed)
    random_points = equation.inside(torch.rand(2000, 2, generator=generator))
    final_points = torch.rand(512, 2, generator=generator)
    axis = torch.linspace(0, 1, 65)
    grid = equation.inside(torch.cartesian_prod(axis, axis))
    expected = {id(points): equation.exact(points) for points in (grid, random_points)}

    def log_error(points: Tensor) -> float:
        solution = expected[id(points)]
        return float(((network(points) - solution).norm() / solution.norm()).log10())

    def finish(weights: Mapping[str, float]) -> None:
        minimise(network, lambda: equation.losses(network, final_points), weights)

    return Trial(
        model=network,
        data=lambda size: torch.rand(size, 2),
        compute_losses=lambda unit: equation.losses(network, unit),
        evaluate=lambda: log_error(grid),
        right_weights=equation.right_weights,
        validate=lambda: log_error(random_points),
        finish=finish,
    )


def minimise(
    network: nn.Module,
    compute_losses: Callable[[], Mapping[str, Tensor]],
    weights: Mapping[str, float],
) -> None:
    """L-BFGS on a sum with fixed weights: it compares values, so its objective must stand still.

    Args:
        network: What is trained.
        compute_losses: Gives the losses, always on the same points.
        weights: One for each loss.
    """
    lbfgs = torch.optim.LBFGS(
        network.parameters(), max_iter=FINAL_ITERATIONS, line_search_fn="strong_wolfe"
    )
    # Of the weights only the ratios count here, and the tolerances are made for values near one.
    scale = sum(abs(weight) for weight in weights.values()) or 1.0

    def closure() -> Tensor:
        lbfgs.zero_grad()
        terms = (weights[name] / scale * loss for name, loss in compute_losses().items())
        total = torch.stack(tuple(terms)).sum()
        total.backward()
        return total

    lbfgs.step(closure)
