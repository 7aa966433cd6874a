"""Balancers and multi-term optimizers by name; and what a method declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from equipoise import aggregation, weighting
from equipoise.balancer import Balancer, LooksAt
from equipoise.gradients.measuring import Measuring
from equipoise.losses import LossNames
from equipoise.optim import AutoBalance, MTAdam, MultiAdam
from equipoise.optim.base import MultiTermOptimizer, Params
from equipoise.words import did_you_mean
from equipoise.wrappers.base import Wrapper
from equipoise.wrappers.crmogm import CRMOGM
from equipoise.wrappers.per_module import PerModule

_BALANCERS: dict[str, type[Balancer]] = {
    name.lower(): getattr(kind, name)
    for kind in (weighting, aggregation)
    for name in kind.__all__
    if name not in ("Weighting", "Aggregation")
} | {"crmogm": CRMOGM}
_OPTIMIZERS: dict[str, Callable[..., MultiTermOptimizer[Any]]] = {
    "autobalance": AutoBalance,
    "mtadam": MTAdam,
    "multiadam": MultiAdam,
}
_NEEDED: dict[type[Balancer], dict[str, Any]] = {weighting.Fixed: {"weights": [1.0, 1.0]}}
"""Options without a default."""


def list_balancers() -> list[str]:
    """The names that `create_balancer` knows, in alphabetical order.

    Example:
        >>> "gradnorm" in list_balancers()
        True
    """
    return sorted(_BALANCERS)


def list_optimizers() -> list[str]:
    """The names that `create_optimizer` knows, in alphabetical order.

    Example:
        >>> list_optimizers()
        ['autobalance', 'mtadam', 'multiadam']
    """
    return sorted(_OPTIMIZERS)


def balancer_class(name: str) -> type[Balancer]:
    """The class of a method.

    Args:
        name: The name of its class in any case, with or without ``_`` and ``-``.

    Raises:
        ValueError: If there is no such method; the message names the nearest, or says that it is an
            optimizer.
    """
    key = _key(name)
    if key in _OPTIMIZERS:
        msg = (
            f"{name!r} is an optimizer for several losses, not a balancer: write "
            f"`create_optimizer({name!r}, params)`, in place of the optimizer that you have."
        )
        raise ValueError(msg)
    if key not in _BALANCERS:
        raise ValueError(
            f"There is no balancer {name!r}.{did_you_mean(key, _BALANCERS, most=3)}"
            " `list_balancers()` names all."
        )
    return _BALANCERS[key]


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


@dataclass(frozen=True)
class Capabilities:
    """What a method looks at and gives, and what a step therefore costs.

    Attributes:
        looks_at: Loss values, gradient norms, the Gramian, or whole gradients.
        weighting: Whether it gives one weight per loss; else a combined gradient.
        stateful: Whether a step depends on earlier ones.
        random: Whether it draws random numbers.
        watches: Where gradients are watched; ``"named"`` for tensors, ``None`` for loss values.
    """

    looks_at: LooksAt
    weighting: bool
    stateful: bool
    random: bool
    watches: str | None

    def passes(self, losses: int, *, nbytes: int = 0) -> int:
        """Backward passes through the shared part of the model in a step that learns.

        At the representation only the heads are passed more than once; at the last shared layer
        the other passes end there. Neither counts here.

        Args:
            losses: ``T``.
            nbytes: What a gradient takes; by default little, so that norms need no pass more.
        """
        if self.watches != "shared":
            return 1
        return Measuring().passes(losses, norms_only=self.looks_at == "norms", nbytes=nbytes)

    def gradients_alive(self, losses: int, *, nbytes: int = 0) -> int:
        """How many gradients of what is watched are held at a time, besides ``.grad``.

        Args:
            losses: ``T``.
            nbytes: As for `passes`.
        """
        if self.looks_at == "losses":
            return 0
        kept = Measuring().keeps(losses, norms_only=self.looks_at == "norms", nbytes=nbytes)
        return losses if kept else 1


def capabilities(method: str | Balancer) -> Capabilities:
    """What a method declares: that of an instance, whose options may decide.

    Args:
        method: A balancer; or a name as for `create_balancer`, which stands for the defaults.

    Raises:
        ValueError: If there is no such method.

    Example:
        >>> capabilities("mgda").passes(losses=10)
        10
    """
    if isinstance(method, str):
        kind = balancer_class(method)
        method = kind(2, **_NEEDED.get(kind, {}))
    return Capabilities(
        method.looks_at, method.weighting, method.stateful, method.random, _watches(method)
    )


def _watches(balancer: Balancer) -> str | None:
    while isinstance(balancer, Wrapper):
        if isinstance(balancer, PerModule):
            return "shared"
        balancer = balancer.balancer
    if not isinstance(balancer, aggregation.Aggregation):
        return None
    return balancer._wrt.named if isinstance(balancer._wrt.named, str) else "named"


def create_balancer(name: str, losses: LossNames, **options: object) -> Balancer:
    """Builds a balancer by name.

    Args:
        name: The name of its class in any case, with or without ``_`` and ``-``.
        losses: How many losses there are, or their unique names.
        options: The keywords of the class.

    Returns:
        The balancer.

    Raises:
        ValueError: If there is no such method.
        TypeError: If the method does not take an option.

    Example:
        >>> create_balancer("soft-adapt", ["a", "b"], beta=0.5)
        SoftAdapt(a, b, beta=0.5)
    """
    return balancer_class(name)(losses, **options)  # type: ignore[arg-type]


def create_optimizer(name: str, params: Params, **options: object) -> MultiTermOptimizer[Any]:
    """Builds a multi-term optimizer by name.

    Args:
        name: The name of its class in any case, with or without ``_`` and ``-``.
        params: Parameters, ``(name, parameter)`` pairs, or parameter groups.
        options: The keywords of the class.

    Returns:
        The optimizer: call ``backward(losses)`` on it in place of ``loss.backward()``.

    Raises:
        ValueError: If there is no such optimizer; the message names the nearest, or says that it is
            a balancer.
        TypeError: If the optimizer does not take an option.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> type(create_optimizer("mt-adam", model.parameters(), lr=1e-2)).__name__
        'MTAdam'
    """
    key = _key(name)
    if key in _BALANCERS:
        msg = (
            f"{name!r} is a balancer, not an optimizer: write `create_balancer({name!r}, names)`, "
            "and keep the optimizer that you have."
        )
        raise ValueError(msg)
    if key not in _OPTIMIZERS:
        raise ValueError(
            f"There is no optimizer {name!r}.{did_you_mean(key, _OPTIMIZERS, most=3)}"
            " `list_optimizers()` names all."
        )
    return _OPTIMIZERS[key](params, **options)
