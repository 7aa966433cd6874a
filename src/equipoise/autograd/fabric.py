"""Gradients measured on models of which a framework lets none but its own backward pass.

Lightning Fabric hangs a hook on every output of a model and raises there unless its own
``backward`` is under way, so that nobody forgets the loss scale. A measurement steps nothing, and
what is applied afterwards still goes through ``fabric.backward``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_WRAPPERS = ("lightning.fabric.wrappers", "lightning_fabric.wrappers")
_UNDER_WAY = "_in_fabric_backward"


@contextmanager
def permitted() -> Iterator[None]:
    """Lets gradient calls inside the ``with`` block pass; without Fabric it does nothing."""
    wrappers = [sys.modules[name] for name in _WRAPPERS if name in sys.modules]
    before = [getattr(module, _UNDER_WAY, False) for module in wrappers]
    for module in wrappers:
        setattr(module, _UNDER_WAY, True)
    try:
        yield
    finally:
        for module, was in zip(wrappers, before, strict=True):
            setattr(module, _UNDER_WAY, was)
