"""The way from a Gramian tensor to a solver and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Matrix: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def solve(gram: Tensor, solver: Callable[[Matrix], Matrix]) -> Tensor:
    """Solves a small problem in float64 on the host.

    Args:
        gram: ``[T, T]``, on any device: reading it is the one synchronisation of a step. What else
            the solver reads from the device may lie below it, as further rows.
        solver: Takes and returns float64 arrays, such as those of `equipoise.solvers`.

    Returns:
        ``[T]``: what the solver returned, in the dtype and on the device of ``gram``; NaN where an
        entry of ``gram`` is not finite, which the solver then does not see.
    """
    array = gram.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(array).all():
        return gram.new_full(gram.shape[-1:], torch.nan)
    return torch.from_numpy(solver(array)).to(gram)


def solve_gramian(gram: Tensor, solver: Callable[..., Matrix], *beside: Tensor) -> Tensor:
    """Solves a small problem of a Gramian, which the solver is told the precision of.

    Args:
        gram: ``[T, T]``, on any device.
        solver: Called with ``gram``, then the rows beside it, and by keyword ``precision``: the
            machine epsilon of the Gramian's dtype, whatever that of the rows is.
        beside: ``[T]`` each: what else it needs, read in the same synchronisation.

    Returns:
        ``[T]``: see `solve`.
    """
    count, precision = len(gram), torch.finfo(gram.dtype).eps
    given = torch.cat([gram, *(row[None].to(gram.device) for row in beside)])
    return solve(given, lambda found: solver(found[:count], *found[count:], precision=precision))
