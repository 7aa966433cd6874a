"""PINA: a balancer as the weighting of a physics-informed solver.

Poisson's equation on a square, with a boundary whose loss is small beside that of the equation:

    pip install "equipoise[pina]"
    python examples/pina_poisson.py
"""

from __future__ import annotations

import logging
import warnings

import torch
from pina import LabelTensor, Trainer
from pina.model import FeedForward
from pina.optim import TorchOptimizer
from pina.problem.zoo import Poisson2DSquareProblem
from pina.solver import PhysicsInformedSingleModelSolver
from pina.weighting import BaseWeighting

import equipoise as eq
from equipoise.integrations.pina import BalancedWeighting


def trained(weighting: BaseWeighting | None) -> float:
    """Trains and gives the relative error of the solution."""
    torch.manual_seed(0)
    problem = Poisson2DSquareProblem()
    problem.discretise_domain(256, "random", domains="D")
    problem.discretise_domain(64, "random", domains="boundary")
    solver = PhysicsInformedSingleModelSolver(
        problem,
        FeedForward(2, 1, layers=[24, 24, 24]),
        optimizer=TorchOptimizer(torch.optim.Adam, lr=3e-3),
        weighting=weighting,
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(solver, max_epochs=500, accelerator="cpu", enable_model_summary=False, **quiet).train()
    points = LabelTensor(torch.rand(1000, 2), ["x", "y"])
    exact = problem.solution(points).tensor
    return ((solver(points).tensor - exact).norm() / exact.norm()).item()


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    balancer = eq.ConFIG(list(Poisson2DSquareProblem.conditions))
    print(f"plain sum: relative error {trained(None):.1e}")
    print(f"balanced:  relative error {trained(BalancedWeighting(balancer)):.1e}")
    print({name: round(weight, 1) for name, weight in balancer.weights.items()})


if __name__ == "__main__":
    main()
