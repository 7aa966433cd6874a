"""MTAdam's balance: gradient norms over units, their averages, and the scale of each gradient."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.optim.hyperparameters import Granularity
from equipoise.optim.mtadam_state import MTAdamBucket
from equipoise.optim.step import Arrange, Decisions, Step

THRESHOLD = 1e-10
"""Up to this norm a loss counts as silent: it is not scaled, and it is nobody's anchor."""


def unit_norms(norms: Tensor, units: Tensor | None) -> Tensor:
    """The norm over each tensor's unit (its layer, its group or everything), given to each tensor.

    Args:
        norms: ``[n]``, the norm of each tensor.
        units: ``[n]``, the number of the unit of each tensor, below ``n``; ``None`` where each
            tensor is its own.

    Returns:
        ``[n]``.
    """
    if units is None:
        return norms
    # Squares of what is at most one can neither overflow nor lose the largest.
    largest = norms.amax().clamp_min(torch.finfo(norms.dtype).tiny)
    squares = torch.zeros_like(norms).index_add_(0, units, (norms / largest).square())
    return squares.sqrt()[units] * largest


class Balance:
    """The scales of one step, loss by loss in order.

    ``N_i = beta3 N_i + (1 - beta3) ||g_i||``, started at the first ``||g_i||``; then ``g_i`` is
    scaled with ``rank_i N_a / N_i``, where ``a`` is the first loss up to ``i`` with
    ``N_a > 1e-10``: the anchor.

    Args:
        norms: ``[T, n]``, the averages before this step; left as they are.
        beta3: ``[n]``, or one number.
    """

    def __init__(self, norms: Tensor, beta3: Tensor | float) -> None:
        self.norms = norms.clone()
        self._beta3 = beta3
        self._anchor = norms.new_zeros(norms.shape[1])

    def rest(self, loss: int) -> None:
        """A loss that this step does not have keeps its norms, and may still be the anchor."""
        self._offer_anchor(self.norms[loss])

    def scale(self, loss: int, measured: Tensor, rank: float, keep: Tensor | None) -> Tensor:
        """Takes in the norms of one loss and returns what its gradients are multiplied with.

        Args:
            loss: Its position.
            measured: ``[n]`` norms of this step.
            rank: How large its share is to be, relative to the anchor's.
            keep: A boolean scalar; where it is false the loss rests.

        Returns:
            ``[n]``.
        """
        before = self.norms[loss]
        mean = self._beta3 * before + (1 - self._beta3) * measured
        norm = torch.where(before < 0, measured, mean)
        if keep is not None:
            norm = torch.where(keep, norm, before)
        self.norms[loss] = norm
        self._offer_anchor(norm)
        return torch.where(norm > THRESHOLD, rank * self._anchor / norm, 1.0)

    def _offer_anchor(self, norm: Tensor) -> None:
        free = (self._anchor == 0) & (norm > THRESHOLD)
        self._anchor = torch.where(free, norm, self._anchor)


class Units:
    """Numbers the unit of each parameter: that over which one norm is taken.

    Args:
        granularity: What a unit is.
    """

    def __init__(self, granularity: Granularity) -> None:
        self._granularity = granularity
        self._known: tuple[list[Tensor], Tensor] | None = None

    def numbers(
        self, groups: Sequence[dict[str, Any]], parameters: Sequence[Tensor], like: Tensor
    ) -> Tensor | None:
        """The number of the unit of each parameter.

        Args:
            groups: The optimizer's parameter groups.
            parameters: ``n`` of their parameters.
            like: On the device of the result.

        Returns:
            ``[n]``; ``None`` where every tensor is its own unit.
        """
        if self._granularity == "tensor":
            return None
        if self._known is None or not _identical(self._known[0], parameters):
            labels = dict(_labels(groups, self._granularity))
            numbers: dict[object, int] = {}
            each = [numbers.setdefault(labels[p], len(numbers)) for p in parameters]
            self._known = (list(parameters), torch.tensor(each, device=like.device))
        return self._known[1]


def _identical(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _labels(
    groups: Sequence[dict[str, Any]], granularity: Granularity
) -> Iterator[tuple[Tensor, object]]:
    """Each parameter with the name of the unit it belongs to."""
    for number, group in enumerate(groups):
        for i, parameter in enumerate(group["params"]):
            if granularity == "layer":
                yield parameter, group["param_names"][i].rpartition(".")[0]
            else:
                yield parameter, number if granularity == "group" else 0


class BalancedStep(Step[MTAdamBucket]):
    """A step of MTAdam: ``b_i = rank_i N_a / N_i g_i``.

    Args:
        buckets: See `Step`.
        arrange: See `Step`.
        parameters: See `Step`.
        decisions: See `Step`.
        ranks: That of each loss.
        units: The number of the unit of each parameter, in the order of the buckets.
    """

    def __init__(
        self,
        buckets: list[MTAdamBucket],
        arrange: Arrange[MTAdamBucket],
        parameters: Sequence[Tensor],
        decisions: Decisions,
        *,
        ranks: Sequence[float],
        units: Tensor | None,
    ) -> None:
        super().__init__(buckets, arrange, parameters, decisions)
        self._ranks = ranks
        self._units = units
        self._balance = _balance(buckets)

    def rest(self, loss: int) -> None:
        """A loss that the step does not have keeps its norms, and may still be the anchor."""
        self._balance.rest(loss)

    def _scales(self, loss: int, norms: Tensor, keep: Tensor | None) -> Tensor:
        return self._balance.scale(loss, norms, self._ranks[loss], keep)

    def _over_units(self, norms: Tensor) -> Tensor:
        return unit_norms(norms, self._units)

    def settle(self) -> None:
        """Makes the norms, and what was held for a scaler, part of the state."""
        super().settle()
        norms = torch.split(self._balance.norms, self._counts, dim=1)
        for bucket, mean in zip(self.buckets, norms, strict=True):
            bucket.norms.copy_(mean)

    def _move(self, bucket: MTAdamBucket) -> None:
        bucket.move(self.losses, self._happens_there)


def _balance(buckets: Sequence[MTAdamBucket]) -> Balance:
    like = max((bucket.norms for bucket in buckets), key=Tensor.element_size)
    where = buckets[0].norms.device
    norms = torch.cat([bucket.norms.to(where, like.dtype) for bucket in buckets], dim=1)
    rates = {bucket.group["betas"][2] for bucket in buckets}
    if len(rates) == 1:
        return Balance(norms, rates.pop())
    each = [norms.new_full(bucket.norms[0].shape, bucket.group["betas"][2]) for bucket in buckets]
    return Balance(norms, torch.cat(each))
