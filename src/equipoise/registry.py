"""Methods by name, for configuration files; and what each one looks at."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from equipoise import aggregation, weighting
from equipoise.balancer import Balancer

if TYPE_CHECKING:
    from equipoise.losses import LossNames

_METHODS: dict[str, type[Balancer]] = {
    name.lower(): getattr(kind, name)
    for kind in (weighting, aggregation)
    for name in kind.__all__
    if name not in ("Weighting", "Aggregation")
}


def list_balancers() -> list[str]:
    """The names that `create_balancer` knows, in alphabetical order.

    Example:
        >>> "gradnorm" in list_balancers()
        True
    """
    return sorted(_METHODS)


def balancer_class(name: str) -> type[Balancer]:
    """The class of a method.

    Args:
        name: The name of its class in any case, with or without ``_`` and ``-``.

    Raises:
        ValueError: If there is no such method; the message names the nearest.
    """
    key = name.lower().replace("_", "").replace("-", "")
    if key not in _METHODS:
        near = difflib.get_close_matches(key, _METHODS, n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
        msg = f"There is no balancer {name!r}. {hint} `list_balancers()` names all."
        raise ValueError(msg)
    return _METHODS[key]


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
        SoftAdapt(a, b)
    """
    return balancer_class(name)(losses, **options)  # type: ignore[arg-type]
