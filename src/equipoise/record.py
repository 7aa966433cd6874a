"""`Record`: what one step saw and applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import NoReturn

import torch
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
        norms: ``[T]`` norms of the losses' gradients, if measured; NaN where absent.
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

    def __float__(self) -> NoReturn:
        """Says what a closure returns to an optimizer such as L-BFGS in place of a record."""
        msg = (
            "A Record is no loss. A closure returns the balanced one: `loss = balancer(losses)`, "
            "`loss.backward()`, `return loss`, inside of `with balancer.settled():`."
        )
        raise TypeError(msg)

    def report(self) -> dict[str, float]:
        """The record as flat numbers, ready for any logger; absent losses are left out.

        Returns:
            ``loss/<name>``, ``weight/<name>``, ``grad_norm/<name>``, ``cosine/<a>:<b>``, ``total``.
            Names of losses as `safe_names` writes them.
        """
        safe, pairs = safe_names(self.names), pair_names(self.names)
        named: dict[str, Tensor] = {}
        for i in self.present:
            named[f"loss/{safe[i]}"] = self.losses[i]
            named[f"weight/{safe[i]}"] = self.weights[i]
            if self.scale is not None:
                named[f"scale/{safe[i]}"] = self.scale[i]
            if self.norms is not None:
                named[f"grad_norm/{safe[i]}"] = self.norms[i]
        if self.cosines is not None:
            for (i, j), pair in pairs.items():
                if i in self.present and j in self.present:
                    named[f"cosine/{pair}"] = self.cosines[i, j]
        named["total"] = self.total
        numbers = torch.stack([number.double() for number in named.values()]).tolist()
        return dict(zip(named, numbers, strict=True))


@cache
def safe_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of losses as every tracker takes them: letters, digits and ``_-./: ``.

    Trackers make files of names, so no part of a path is empty, ``.`` or ``..`` either. What is not
    allowed becomes ``_``; two names that would be the same then are told apart by a number.

    Args:
        names: As the user chose them.

    Returns:
        As many, in their order, no two alike.

    Example:
        >>> safe_names(("depth", "L~1", "L@1", "aux/../x"))
        ('depth', 'L_1', 'L_1-2', 'aux/__/x')
    """
    return _told_apart([_safe(name) for name in names], names)


@cache
def pair_names(names: tuple[str, ...]) -> dict[tuple[int, int], str]:
    """The name of each pair of losses, ``<a>:<b>``, by their positions.

    Args:
        names: As the user chose them.
    """
    safe = safe_names(names)
    pairs = list(combinations(range(len(names)), 2))
    return dict(zip(pairs, _told_apart([f"{safe[i]}:{safe[j]}" for i, j in pairs]), strict=True))


def _safe(name: str) -> str:
    allowed = "".join(letter if letter.isalnum() or letter in "_-.: /" else "_" for letter in name)
    parts = [part.strip() for part in allowed.split("/")]
    return "/".join("_" * max(len(part), 1) if part in ("", ".", "..") else part for part in parts)


def _told_apart(made: Sequence[str], chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """The same, with a number behind what came before; a name that was chosen so stays."""
    taken = set(made) & set(chosen)
    found: list[str] = []
    for place, name in enumerate(made):
        kept = place < len(chosen) and chosen[place] == name
        number, unique = 1, name
        while not kept and unique in taken:
            number += 1
            unique = f"{name}-{number}"
        taken.add(unique)
        found.append(unique)
    return tuple(found)


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
