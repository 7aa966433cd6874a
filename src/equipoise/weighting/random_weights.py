"""Random loss weighting (Lin et al. 2022)."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from equipoise.learner import BalancerOptions
from equipoise.losses import LossNames
from equipoise.parts.random import Drawing
from equipoise.weighting.base import Weighting

Distribution: TypeAlias = Literal[
    "normal", "uniform", "dirichlet", "bernoulli", "constrained_bernoulli"
]


class RandomWeights(Weighting):
    r"""Draws new weights at every step: what a method of balancing has to be better than.

    .. math:: w = \mathrm{softmax}(z), \qquad z \sim N(0, I)

    and other distributions. The weights sum to 1.

    Args:
        losses: How many losses there are, or their unique names.
        distribution: ``"normal"`` or ``"uniform"`` on [0, 1], each through a softmax;
            ``"dirichlet"``, uniform on the simplex; ``"bernoulli"``, the mean of a random choice of
            losses, each in with probability 1/2 and never none; ``"constrained_bernoulli"``, one
            loss alone.
        generator: Where numbers come from; a CPU generator. By default one of its own, seeded by
            torch's.
        options: See `Balancer`.

    Raises:
        ValueError: If ``distribution`` is unknown.

    Example:
        >>> balancer = RandomWeights(["a", "b"], generator=torch.Generator().manual_seed(0))
        >>> balancer.weigh(torch.tensor([3.0, 0.5]))
        tensor([0.8623, 0.1377])

    References:
        Lin, Ye, Zhang, Tsang 2022, Reasonable Effectiveness of Random Weighting: A Litmus Test for
        Multi-Task Learning, TMLR, arXiv 2111.10603.

    Differs from the authors' code in nothing where weights are normal, the only distribution that
    it still has. Its earlier versions did not divide Bernoulli weights by their sum, and sent
    Dirichlet weights, which are shares already, through a softmax.
    """

    def __init__(
        self,
        losses: LossNames,
        *,
        distribution: Distribution = "normal",
        generator: torch.Generator | None = None,
        **options: Unpack[BalancerOptions],
    ) -> None:
        super().__init__(losses, **options)
        if distribution not in get_args(Distribution):
            choices = ", ".join(map(repr, get_args(Distribution)))
            msg = f"`distribution` is {distribution!r}; write one of {choices}."
            raise ValueError(msg)
        self.distribution = distribution
        self.drawing = Drawing(self.names, generator)

    def _weigh(self, values: Tensor) -> Tensor:
        def sample(generator: torch.Generator) -> Tensor:
            return draw(self.distribution, len(values), generator)

        return weights_of(self.drawing.draw(sample, values), self.distribution)


def draw(distribution: Distribution, count: int, generator: torch.Generator) -> Tensor:
    """One draw of ``[count]`` numbers, before they become weights."""
    if distribution == "normal":
        return torch.randn(count, generator=generator)
    if distribution == "uniform":
        return torch.rand(count, generator=generator)
    if distribution == "dirichlet":
        return torch.empty(count).exponential_(generator=generator)
    if distribution == "bernoulli":
        return _some(count, generator)
    chosen = torch.randint(count, (), generator=generator)
    return (torch.arange(count) == chosen).float()


def _some(count: int, generator: torch.Generator) -> Tensor:
    while True:
        chosen = torch.randint(2, (count,), generator=generator).float()
        if bool(chosen.any()):
            return chosen


def weights_of(drawn: Tensor, distribution: Distribution) -> Tensor:
    """The weights that a draw stands for.

    Args:
        drawn: ``[T]``, of `draw`.
        distribution: What it was drawn from.

    Returns:
        ``[T]`` weights, which sum to 1.
    """
    if distribution in ("normal", "uniform"):
        return torch.softmax(drawn, dim=0)
    return drawn / drawn.sum()
