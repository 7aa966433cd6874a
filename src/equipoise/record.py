"""`Record`: what one step saw and applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Record:
    """The losses, weights and measurements of one step, detached; reading synchronises.

    Attributes:
        names: The names of all ``T`` losses.
        present: The positions of the losses that the step had.
        losses: ``[T]`` values as the model gave them; NaN where absent.
        weights: ``[T]`` what each loss's gradient was multiplied with; zero where absent.
        total: ``[]`` the plain sum of the losses that are there, for schedulers and early stopping.
        scale: ``[T]`` what each loss was divided by before the method saw it, if it was.
        norms: ``[T]`` gradient norms (of the losses times their priorities), if measured.
        cosines: ``[T, T]`` cosines between gradients, if measured.
        apart: The names of losses that share nothing with the others where gradients were watched:
            they count with their priority.
    """

    names: tuple[str, ...]
    present: tuple[int, ...]
    losses: Tensor
    weights: Tensor
    total: Tensor
    scale: Tensor | None = None
    norms: Tensor | None = None
    cosines: Tensor | None = None
    apart: tuple[str, ...] = ()

    def report(self) -> dict[str, float]:
        """The record as flat numbers, ready for any logger; absent losses are left out.

        Returns:
            ``loss/<name>``, ``weight/<name>``, ``grad_norm/<name>``, ``cosine/<a>~<b>``, ``total``.
        """
        named: dict[str, Tensor] = {}
        for i in self.present:
            named[f"loss/{self.names[i]}"] = self.losses[i]
            named[f"weight/{self.names[i]}"] = self.weights[i]
            if self.scale is not None:
                named[f"scale/{self.names[i]}"] = self.scale[i]
            if self.norms is not None:
                named[f"grad_norm/{self.names[i]}"] = self.norms[i]
        if self.cosines is not None:
            for i in self.present:
                for j in self.present:
                    if i < j:
                        named[f"cosine/{self.names[i]}~{self.names[j]}"] = self.cosines[i, j]
        named["total"] = self.total
        numbers = torch.stack([number.double() for number in named.values()]).tolist()
        return dict(zip(named, numbers, strict=True))


def spread(found: Tensor, present: tuple[int, ...], count: int, absent: float) -> Tensor:
    """Lays what was found for the present losses into all ``count`` places.

    Args:
        found: ``[len(present)]``, or ``[len(present), len(present)]``.
        present: The positions of the losses that are there.
        count: ``T``.
        absent: What the other places hold.

    Returns:
        ``[T]`` or ``[T, T]``.
    """
    if len(present) == count:
        return found
    everywhere = found.new_full((count,) * found.ndim, absent)
    index = torch.tensor(present, device=found.device)
    if found.ndim == 1:
        everywhere[index] = found
    else:
        everywhere[index[:, None], index] = found
    return everywhere
