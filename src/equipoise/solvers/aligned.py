"""Rescaling of the Gramian's eigenvalues to one common value."""

from __future__ import annotations

from typing import Literal

import numpy as np

from equipoise.solvers.scaling import DOUBLE, Array, is_finite

EigenvalueScale = Literal["min", "median", "rmse"]


def aligned(
    gramian: Array,
    preference: Array,
    scale: EigenvalueScale = "min",
    precision: float = DOUBLE,
) -> Array:
    r"""Weights of Aligned-MTL: the gradients' principal components get one common length.

    $$w = \sqrt{\lambda}\; V \Lambda^{-1/2} V^\top p, \qquad G = V \Lambda V^\top$$

    over the eigenvalues above `max(Lambda) * T * precision`.

    Args:
        gramian: `G`, `[T, T]`.
        preference: `p`, `[T]`.
        scale: which eigenvalue becomes the common one, $\lambda$: the smallest of those kept, their
            median (the lower of two) or their mean (which the authors call `rmse`).
        precision: machine epsilon of the dtype in which the gradients were measured.

    Returns:
        `w`, `[T]`, entries may be negative; NaN where the Gramian is not finite; `p` where all
        gradients are zero.

    Raises:
        ValueError: `scale` is none of the three.

    Example:
        >>> aligned(np.diag([1.0, 4.0]), np.array([0.5, 0.5]))
        array([0.5 , 0.25])

    Source: Senushkin, Patakin, Kuznetsov and Konushin, 2023, arXiv:2305.19000, algorithm 1.
    Differs from the authors' code: none in value; `p = 1` there, and the tolerance uses the epsilon
    of the default dtype.
    """
    if not is_finite(gramian):
        return np.full(len(gramian), np.nan)
    largest = float(gramian.diagonal().max())
    if not largest > 0:
        return np.array(preference)
    values, vectors = np.linalg.eigh(gramian / largest)
    kept = values > values[-1] * len(values) * precision
    values, vectors = values[kept], vectors[:, kept]
    rescaling = np.sqrt(_common_eigenvalue(values, scale) / values)
    weights: Array = vectors @ (rescaling * (preference @ vectors))
    return weights


def _common_eigenvalue(ascending: Array, scale: EigenvalueScale) -> float:
    if scale == "min":
        return float(ascending[0])
    if scale == "median":
        return float(ascending[(len(ascending) - 1) // 2])
    if scale == "rmse":
        return float(ascending.mean())
    raise ValueError(f'scale is {scale!r}; write "min", "median" or "rmse".')
