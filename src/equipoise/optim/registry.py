"""Multi-term optimizers by name, for configuration files."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from equipoise import aggregation, weighting
from equipoise.optim.autobalance import AutoBalance
from equipoise.optim.base import MultiTermOptimizer, Params
from equipoise.optim.mtadam import MTAdam

_OPTIMIZERS: dict[str, Callable[..., MultiTermOptimizer[Any]]] = {
    kind.__name__.lower(): kind for kind in (AutoBalance, MTAdam)
}


def list_optimizers() -> list[str]:
    """The names that `create_optimizer` knows, in alphabetical order.

    Example:
        >>> list_optimizers()
        ['autobalance', 'mtadam']
    """
    return sorted(_OPTIMIZERS)


def known_optimizer(name: str) -> str | None:
    """The listed name of an optimizer, however it is spelt.

    Args:
        name: The name of its class in any case, with or without ``_`` and ``-``.

    Returns:
        ``None`` if there is no such optimizer.

    Example:
        >>> known_optimizer("MT-Adam")
        'mtadam'
    """
    key = _key(name)
    return key if key in _OPTIMIZERS else None


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
    known = known_optimizer(name)
    if known is None:
        raise ValueError(_unknown(name))
    return _OPTIMIZERS[known](params, **options)


def _unknown(name: str) -> str:
    key = _key(name)
    if key in {method.lower() for method in (*aggregation.__all__, *weighting.__all__)}:
        return (
            f"{name!r} is a balancer, not an optimizer: write `create_balancer({name!r}, names)`, "
            "and keep the optimizer that you have."
        )
    near = difflib.get_close_matches(key, _OPTIMIZERS, n=2, cutoff=0.4)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"There is no optimizer {name!r}.{hint} `list_optimizers()` names all."


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
