"""The pictures that ship with scikit-learn: nothing is downloaded."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_GREY = (0.299, 0.587, 0.114)
"""How bright red, green and blue are: ITU-R BT.601."""


def load_digits() -> tuple[Tensor, Tensor]:
    """The 8 x 8 handwritten digits.

    Returns:
        ``[1797, 1, 8, 8]`` in [0, 1], and ``[1797]`` classes.
    """
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return pixels / 16, torch.tensor(labels, dtype=torch.int64)


def load_photographs() -> list[Tensor]:
    """Two photographs, of a temple and of a flower.

    Returns:
        ``[427, 640]`` each, grey, in [0, 1].
    """
    from sklearn import datasets

    images = datasets.load_sample_images().images
    grey = torch.tensor(_GREY)
    return [torch.tensor(image, dtype=torch.float32) @ grey / 255 for image in images]


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotates each image about its middle.

    Args:
        images: ``[N, 1, H, W]``.
        degrees: ``[N]``, counter-clockwise.

    Returns:
        ``[N, 1, H, W]``; what comes in from outside is 0.

    Example:
        >>> corner = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        >>> rotate(corner, torch.tensor([90.0])).round().abs()
        tensor([[[[0., 0.],
                  [1., 0.]]]])
    """
    radians = degrees * math.pi / 180
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # Where each pixel of the result is read; the second axis points down.
    maps = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
