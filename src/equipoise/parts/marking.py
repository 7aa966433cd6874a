"""A loss that a method treats apart, by name."""

from __future__ import annotations

import torch
from torch import Tensor


def mark(name: str | None, names: tuple[str, ...], argument: str, *, default: int = 0) -> Tensor:
    """Which loss is meant, as numbers, so that it follows the losses when some are absent.

    Args:
        name: The loss; ``None`` is the one at position ``default``.
        names: The names of the ``T`` losses.
        argument: What the choice is called in error messages.
        default: A position, counted as Python does.

    Returns:
        ``[T]``: one at the loss, zero elsewhere.

    Raises:
        ValueError: If there is no loss of that name.

    Example:
        >>> mark("b", ("a", "b"), "target")
        tensor([0., 1.])
    """
    chosen = names[default] if name is None else name
    if chosen not in names:
        known = ", ".join(map(repr, names))
        msg = f"`{argument}` is {chosen!r}, which is no loss; write one of {known}."
        raise ValueError(msg)
    return torch.tensor([float(other == chosen) for other in names])
