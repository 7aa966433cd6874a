"""PINA (``pina-mathlab``): any balancer as the weighting of a solver."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from equipoise.integrations import missing
from equipoise.integrations.balanced_loss import balanced_loss

try:
    from pina.weighting import BaseWeighting
except ModuleNotFoundError as error:
    raise missing("pina") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pina.solver import BaseSolver
    from torch import Tensor

    from equipoise.balancer import Balancer


class BalancedWeighting(BaseWeighting):
    """Balances the losses of a PINA solver, one for each condition of its problem.

    It learns once per step of the optimizer: the closures of L-BFGS and further micro-batches are
    taken with the weights learned at the first, validation and tests with the last ones. The solver
    saves the balancer in its checkpoints. Every condition should be in every batch, as PINA does
    but for ``batching_mode="separate_conditions"``.

    Args:
        balancer: Built with the names of the conditions, ``list(problem.conditions)``.

    Raises:
        ModuleNotFoundError: On import, if PINA is not installed.
        TypeError: At the first step, if the optimizer is L-BFGS, which searches along a loss, and
            the balancer has none.
    """

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self._step: int | None = None
        super().__init__(aggregator=lambda _: self._balanced)

    @property
    def _solver(self) -> BaseSolver | None:
        """The solver that PINA writes here when it takes the weighting."""
        return self._owner

    @_solver.setter
    def _solver(self, solver: BaseSolver | None) -> None:
        self._owner = solver
        if solver is not None:
            solver.add_module("balancer", self.balancer)  # so that checkpoints hold its state

    def update_weights(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Balances the losses.

        Args:
            losses: The scalar loss of each condition of the batch.

        Returns:
            What each was multiplied with; for a balancer that is no weighting of the losses, in the
            last step.
        """
        trainer = self.solver.trainer
        learns = trainer.training and trainer.global_step != self._step
        if learns:
            self._check(trainer.optimizers)
            self._step = trainer.global_step
        with nullcontext() if learns else self.balancer.frozen():
            # PINA would add up the losses times their weights; this is that sum already.
            self._balanced = (
                self.balancer(losses)
                if self.balancer.weighting
                else balanced_loss(self.balancer, losses)
            )
        return self.balancer.weights

    def _check(self, optimizers: list[torch.optim.Optimizer]) -> None:
        searching = any(isinstance(one, torch.optim.LBFGS) for one in optimizers)
        if searching and not self.balancer.weighting:
            msg = (
                f"L-BFGS searches along a loss, and {type(self.balancer).__name__} has none: it is "
                "no weighting of the losses. Choose another balancer or optimizer."
            )
            raise TypeError(msg)
