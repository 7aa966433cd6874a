"""Adaptive ratio: the adversarial weight of VQGAN (Esser et al. 2021)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.aggregation.base import Aggregation, AggregationOptions
from equipoise.autograd.targets import Watched, Wrt, watch
from equipoise.balancer import LooksAt
from equipoise.gradients.gradients import Gradients
from equipoise.losses import LossNames, Terms
from equipoise.parts.checks import check_not_negative, check_positive
from equipoise.parts.marking import mark


class AdaptiveRatio(Aggregation):
    r"""Gives the adversarial loss a gradient as large as that of the target loss.

    With norms at the last layer of the generator,

    .. math:: w_{adversarial} = s \min\Big(
        \frac{\| \nabla L_{target} \|}{\| \nabla L_{adversarial} \| + \epsilon},\, c \Big)

    and 0 in the first ``start`` steps; all other weights are 1.

    Args:
        losses: How many losses there are, or their unique names.
        target: The name of the loss to keep up with, the reconstruction; default the first.
        adversarial: The name of the loss that is weighted; default the last.
        ratio: ``s``, how long its gradient is to be beside the target's; authors' code: 1 by
            default, 0.8 in its ImageNet configuration. Beside an absolute error 0.1 did as well as
            a searched weight where 1 did worse than the plain sum (docs/evidence).
        start: How many steps the adversarial loss waits, so that the discriminator starts on
            sensible images; authors' code: set for each model, 0 here.
        max_ratio: ``c``, the largest weight that it may get; authors' code: 1e4.
        eps: :math:`\epsilon`, which bounds the weight of a zero gradient; authors' code: 1e-4 (the
            paper has 1e-6).
        options: See `Aggregation`.

    Raises:
        ValueError: If a name is unknown, both names are the same, or a number is out of range.

    Example:
        >>> from equipoise.gradients.gradients import Gradients
        >>> gradients = Gradients(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        >>> balancer = AdaptiveRatio(["reconstruction", "adversarial"], eps=0.5)
        >>> balancer.weigh(torch.tensor([1.0, 1.0]), gradients)
        tensor([1., 2.])

    References:
        Esser, Rombach, Ommer 2021, arXiv 2012.09841, equation 7; taming-transformers,
        ``VQLPIPSWithDiscriminator.calculate_adaptive_weight``.

    The last layer is the one that these two losses share: a third, such as that of a codebook, may
    end before it. Where one of the two is absent the last weights stay.
    """

    looks_at: LooksAt = "norms"
    default_wrt: ClassVar[Literal["shared", "last_shared", "representation"]] = "last_shared"

    is_target: Tensor
    is_adversarial: Tensor
    steps: Tensor

    def __init__(
        self,
        losses: LossNames,
        *,
        target: str | None = None,
        adversarial: str | None = None,
        ratio: float = 1.0,
        start: int = 0,
        max_ratio: float = 1e4,
        eps: float = 1e-4,
        **options: Unpack[AggregationOptions],
    ) -> None:
        super().__init__(losses, **options)
        check_not_negative(ratio=ratio, start=start, max_ratio=max_ratio)
        check_positive(eps=eps)
        self.ratio = ratio
        self.start = start
        self.max_ratio = max_ratio
        self.eps = eps
        self._choose(target, adversarial)
        self.state("steps", torch.zeros((), dtype=torch.long), axes=0)

    def _choose(self, target: str | None, adversarial: str | None) -> None:
        is_target = mark(target, self.names, "target")
        is_adversarial = mark(adversarial, self.names, "adversarial", default=-1)
        if len(self.names) == 1:
            is_adversarial = torch.zeros(1)  # one loss has nothing to keep up with
        elif torch.equal(is_target, is_adversarial):
            name = self.names[int(is_target.argmax())]
            msg = f"`target` and `adversarial` are both {name!r}; name two different losses."
            raise ValueError(msg)
        self._pair = tuple((is_target + is_adversarial).nonzero().flatten().tolist())
        self.option("is_target", is_target)
        self.option("is_adversarial", is_adversarial)
        if self.start > 0:
            self.state("resting", 1 - is_adversarial)

    def _watch(self, terms: Terms, wrt: Wrt | None) -> Watched | None:
        """What a name means is found from the two losses alone."""
        complete = len(self._pair) == 2 and set(self._pair) <= set(terms.present)
        chosen = self._wrt.unless(wrt)
        if not complete or (isinstance(chosen, str) and not terms.everywhere):
            self.steps += self.every
            return None
        if not isinstance(chosen, str):
            return self._of_pair(terms, super()._watch(terms, wrt))
        places = terms.places
        pair = [places[terms.present.index(i)] for i in self._pair]
        losses = [loss for loss in pair if loss is not None]
        names = [self.names[i] for i in self._pair]
        return Watched(watch(losses, chosen, names, self._meter.trained()).targets)

    def _of_pair(self, terms: Terms, watched: Watched | None) -> Watched | None:
        """The other losses need share nothing with the two: their weight is one anyway."""
        if watched is None:
            return None
        apart = tuple(place for place in watched.apart if terms.present[place] in self._pair)
        return replace(watched, apart=apart)

    def _weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        norms = gradients.norms().to(values.dtype)
        ratio = (self.is_target @ norms) / (self.is_adversarial @ norms + self.eps)
        begun = (self.steps >= self.start).to(values.dtype)
        self.steps = self.steps + self.every
        weight = begun * self.ratio * ratio.clamp(max=self.max_ratio)
        return torch.where(self.is_adversarial > 0, weight, 1.0)
