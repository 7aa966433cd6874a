"""`WeightOptimizer`: gradient descent on a balancer's own numbers, with its state in buffers."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from equipoise.parts.checks import check_choice, check_positive
from equipoise.state import Stateful

Rule: TypeAlias = Literal["adam", "sgd"]


class Holder(Protocol):
    """What has the optimizer's state: the balancer, or the part of it that a step is about."""

    def get_buffer(self, target: str) -> Tensor:
        """The state of this name, changed in place."""
        ...


class WeightOptimizer:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, Algorithm 1) or plain SGD on a ``[T]`` buffer.

    Moments and step counts are buffers of the owner, one entry per loss, so that those of an absent
    loss rest.

    Args:
        owner: The balancer that holds the state.
        rule: ``"adam"`` or ``"sgd"``.
        lr: Learning rate, positive.
        weight_decay: L2 penalty, added to the gradient.
        betas: Decay rates of Adam's moments.
        eps: Added to the root of Adam's second moment.
        count: How many numbers there are, where they are not one per loss.

    Raises:
        ValueError: If ``rule`` is unknown or ``lr`` not positive.
    """

    def __init__(
        self,
        owner: Stateful,
        rule: Rule,
        lr: float,
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        count: int | None = None,
    ) -> None:
        check_choice("optimizer", rule, ("adam", "sgd"))
        check_positive(lr=lr)
        self.rule = rule
        self.lr = lr
        self.weight_decay = weight_decay
        self.betas = betas
        self.eps = eps
        if rule == "adam":
            for name in ("exp_avg", "exp_avg_sq", "optimizer_steps"):
                numbers = torch.zeros(len(owner.names) if count is None else count)
                owner.state(name, numbers, axes=1 if count is None else 0)

    def descend(self, owner: Holder, numbers: Tensor, gradient: Tensor) -> Tensor:
        """One step.

        Args:
            owner: What holds the state, as a rule the balancer.
            numbers: ``[T]`` what is optimised.
            gradient: ``[T]``.

        Returns:
            ``[T]`` the new numbers.
        """
        gradient = gradient + self.weight_decay * numbers
        if self.rule == "sgd":
            return numbers - self.lr * gradient
        first = owner.get_buffer("exp_avg")
        second = owner.get_buffer("exp_avg_sq")
        steps = owner.get_buffer("optimizer_steps")
        beta1, beta2 = self.betas
        steps += 1
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        corrected = second.sqrt() / (1 - beta2**steps).sqrt() + self.eps
        return numbers - self.lr / (1 - beta1**steps) * first / corrected


def descend_where(
    optimizer: WeightOptimizer,
    owner: Stateful,
    numbers: Tensor,
    gradient: Tensor,
    moving: Tensor,
) -> Tensor:
    """One step of the numbers that move; the others keep value, moments and step count.

    Args:
        optimizer: What descends.
        owner: The balancer that holds its state.
        numbers: ``[T]`` what is optimised.
        gradient: ``[T]``.
        moving: ``[T]`` booleans.

    Returns:
        ``[T]`` the new numbers.
    """
    names = ("exp_avg", "exp_avg_sq", "optimizer_steps") if optimizer.rule == "adam" else ()
    before = {name: owner.get_buffer(name).clone() for name in names}
    descended = optimizer.descend(owner, numbers, gradient)
    for name, kept in before.items():
        buffer = owner.get_buffer(name)
        buffer.copy_(torch.where(moving, buffer, kept))
    return torch.where(moving, descended, numbers)
