"""`ObservingAggregation`: what methods that look at more than one mini-batch per step share."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.autograd.targets import Wrt
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.learner import Step
from equipoise.losses import Losses, LossNames


class ObservingAggregation(Aggregation):
    """An aggregation that estimates its Gramian from two independent mini-batches.

    Both are shown to `observe` before ``backward`` is called on the batch to descend on. A batch
    that is not shown is stood in for by that of ``backward``: so the method runs in an ordinary
    loop too, with the bias of a single batch. After the step they are forgotten.

    Args:
        losses: How many losses there are, or their unique names.
        options: See `Aggregation`.
    """

    looks_at: LooksAt = "gradients"

    observed: Tensor
    observed_batches: Tensor

    def __init__(self, losses: LossNames, **options: Unpack[AggregationOptions]) -> None:
        super().__init__(losses, **options)
        self.state("observed", torch.zeros(len(self.names), 2, 0))
        self.state("observed_batches", torch.zeros(len(self.names), dtype=torch.long))

    def observe(self, losses: Losses | Gradients, *, wrt: Wrt | None = None) -> None:
        """Measures the gradients of a further mini-batch and keeps them until the next step.

        Nothing is written to ``.grad``. A third batch takes the place of the first.

        Args:
            losses: The losses of that batch, on the live graph; or their gradients, as measured
                already, of all ``T`` losses.
            wrt: Where gradients are watched: the same as in ``backward``.

        Raises:
            ValueError: If a loss is not a scalar or has no graph, or the losses share nothing.
        """
        if not self.learning:
            return
        if isinstance(losses, Gradients):
            self.follow(losses.like.new_zeros(()))
            self._keep(losses)
            return
        terms = self.processes.agree(self._read(losses))
        self.follow(terms.values())
        watched = self._watch(terms, wrt)
        if watched is None:
            return
        measured = self._meter.run(terms, watched, retain_graph=True, applies=False)
        with self.among(terms.present):
            self._keep(measured.gradients.scaled(self.factors))

    def _keep(self, gradients: Gradients) -> None:
        if self.observed.shape[-1] != gradients.width:
            self.observed_batches = torch.zeros_like(self.observed_batches)
        place = self.observed_batches % 2
        here = torch.arange(len(place), device=place.device)
        for rows, observed in gradients.blocks(self._sized("observed", gradients)):
            observed[here, place] = rows.to(observed.dtype)
        self.observed_batches = place + 1

    def _products(self, gradients: Gradients) -> Tensor:
        """``J_1 J_2^T``, ``[T, T]``, of what was observed, else of the step; forgets the first."""
        if self.observed.shape[-1] == 0:
            return gradients.gram()
        if self.observed.shape[-1] != gradients.width:
            raise ValueError(
                f"The observed gradients have {self.observed.shape[-1]} entries, those of this "
                f"step {gradients.width}; pass the same `wrt` to `observe` and `backward`."
            )
        count = len(self.observed)
        batches = torch.arange(2, device=self.observed.device)
        there = (self.observed_batches[:, None] > batches)[:, :, None]
        products = self.observed.new_zeros(count, count)
        for own, observed in gradients.blocks(self.observed):
            shown = torch.where(there, observed, own[:, None].to(observed.dtype))
            products += shown[:, 0] @ shown[:, 1].T
        self._forget()
        return products

    def _forget(self) -> None:
        self.observed = self.observed.new_zeros(*self.observed.shape[:-1], 0)
        self.observed_batches = torch.zeros_like(self.observed_batches)

    def _decide(self, step: Step, gradients: Gradients | None) -> Tensor:
        """Forgets what was observed of losses that this step does not have, too."""
        weights = super()._decide(step, gradients)
        if gradients is not None:
            self._forget()
        return weights
