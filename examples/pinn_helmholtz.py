"""Helmholtz's equation at equal time: the plain sum against balanced losses, Adam then L-BFGS.

    pip install equipoise
    python examples/pinn_helmholtz.py           # a minute or two on one idle core
    python examples/pinn_helmholtz.py --short   # a few seconds, which train next to nothing

Equal time, on a machine that does other things too: what a step costs beside a step of the plain
sum is measured first, in turns, by the time of the process. Each method then gets the number of
steps that the same time buys, so that what else is running cannot decide.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

import equipoise as eq

LOSSES = ["residual", "boundary"]
METHODS: dict[str, Callable[[], eq.Balancer]] = {
    "plain sum": lambda: eq.Equal(LOSSES),
    "InverseGradientNorm": lambda: eq.InverseGradientNorm(LOSSES, every=10),
}


def solution(points: Tensor) -> Tensor:
    """What the network is to find, zero on the edges of [-1, 1]^2."""
    return (torch.pi * points[:, 0]).sin() * (2 * torch.pi * points[:, 1]).sin()


class Problem:
    """u_xx + u_yy + u = q, with u = 0 on the boundary, and a network for u."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        layers = [nn.Linear(2, 30), nn.Tanh(), nn.Linear(30, 30), nn.Tanh()]
        self.network = nn.Sequential(*layers, nn.Linear(30, 30), nn.Tanh(), nn.Linear(30, 1))
        for layer in self.network:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.inside = (2 * torch.rand(200, 2) - 1).requires_grad_()
        self.q = (1 - 5 * torch.pi**2) * solution(self.inside.detach())
        along, one = 2 * torch.rand(4, 25) - 1, torch.ones(25)
        sides = [(along[0], one), (along[1], -one), (one, along[2]), (-one, along[3])]
        self.edges = torch.cat([torch.stack(side, dim=1) for side in sides])

    def losses(self) -> dict[str, Tensor]:
        u = self.network(self.inside)[:, 0]
        (slope,) = torch.autograd.grad(u.sum(), self.inside, create_graph=True)
        bends = [
            torch.autograd.grad(slope[:, i].sum(), self.inside, create_graph=True)[0][:, i]
            for i in range(2)
        ]
        return {
            "residual": (bends[0] + bends[1] + u - self.q).square().mean(),
            "boundary": self.network(self.edges).square().mean(),
        }

    @torch.no_grad()
    def error(self) -> float:
        """The distance to the solution, relative to its length, on a grid."""
        line = torch.linspace(-1, 1, 101)
        grid = torch.cartesian_prod(line, line)
        exact = solution(grid)
        return ((self.network(grid)[:, 0] - exact).norm() / exact.norm()).item()


class Training:
    """A problem, its balancer, and Adam."""

    def __init__(self, balancer: eq.Balancer, seed: int) -> None:
        self.problem, self.balancer = Problem(seed), balancer
        self.adam = torch.optim.Adam(self.problem.network.parameters(), lr=1e-3)

    def step(self) -> None:
        self.adam.zero_grad()
        self.balancer.backward(self.problem.losses())
        self.adam.step()

    def finish(self, evaluations: int) -> None:
        """L-BFGS on the weights that were learned; an evaluation costs the same with any."""
        with self.balancer.settled():
            lbfgs = torch.optim.LBFGS(
                self.problem.network.parameters(),
                max_iter=evaluations,
                max_eval=evaluations,
                history_size=50,
                tolerance_grad=1e-12,
                tolerance_change=1e-14,
                line_search_fn="strong_wolfe",
            )

            def closure() -> Tensor:
                lbfgs.zero_grad()
                loss = self.balancer(self.problem.losses())
                loss.backward()
                return loss

            lbfgs.step(closure)


def prices(rounds: int) -> dict[str, float]:
    """What a step costs with each method, in steps of the first: the median over rounds."""
    trainings = {name: Training(make(), seed=99) for name, make in METHODS.items()}
    spent: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(rounds):
        for name, training in trainings.items():
            before = time.process_time()
            for _ in range(10):
                training.step()
            spent[name].append(time.process_time() - before)
    first = spent[next(iter(METHODS))]
    return {name: median(t / f for t, f in zip(s, first, strict=True)) for name, s in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Helmholtz's equation at equal time.")
    parser.add_argument("--short", action="store_true", help="a few seconds")
    short = parser.parse_args().short
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    steps, evaluations, seeds = (20, 10, 1) if short else (2000, 500, 3)
    print(f"{'':20} {'price':>6} {'seed':>5} {'steps':>6} {'Adam':>8} {'L-BFGS':>8}")
    for name, price in prices(2 if short else 12).items():
        for seed in range(seeds):
            training = Training(METHODS[name](), seed)
            for _ in range(round(steps / price)):
                training.step()
            after_adam = training.problem.error()
            training.finish(evaluations)
            row = f"{name:20} {price:6.2f} {seed:5} {round(steps / price):6} {after_adam:8.4f}"
            print(f"{row} {training.problem.error():8.4f}")


if __name__ == "__main__":
    main()
