"""`Entry`: one kept step as plain numbers, which is one line of a record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

from equipoise.record import pair_names, safe_names

Numbers: TypeAlias = list[float]
"""One number per loss, or per pair of losses; NaN where there is none."""


@dataclass(frozen=True)
class Entry:
    """A step of a training, as it was kept.

    Attributes:
        step: How many steps came before it.
        time: When, in seconds since 1970.
        losses: ``[T]`` values; NaN too where a loss is absent.
        present: The positions of the losses that the step had.
        weights: ``[T]``, what each loss's gradient was multiplied with.
        priorities: ``[T]``, those of this step.
        skipped: ``[T]``, how many steps were skipped so far for each loss.
        norms: ``[T]`` gradient norms, if there were any.
        cosines: ``[T (T - 1) / 2]`` cosines of pairs, in the order of `pair_names`, likewise.
        measured: Whether norms and cosines were measured for the record, over all that is shared.
            Else they are the method's own, taken where and when it looks.
    """

    step: int
    time: float
    losses: Numbers
    present: list[int]
    weights: Numbers
    priorities: Numbers
    skipped: Numbers
    norms: Numbers | None = None
    cosines: Numbers | None = None
    measured: bool = False

    def to_line(self) -> str:
        """One line of JSON; numbers that are not finite are written as text."""
        return json.dumps(_written(asdict(self)), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Entry:
        """The entry of a parsed line.

        Args:
            read: The object. What it has besides is passed over, for records of later versions.

        Raises:
            KeyError: If it lacks something.
            TypeError: If a number is none.
            ValueError: The same.
        """
        known = {field.name: read[field.name] for field in fields(cls) if field.name in read}
        for name in ("losses", "weights", "priorities", "skipped", "norms", "cosines"):
            if known.get(name) is not None:
                known[name] = [float(number) for number in known[name]]
        return cls(**known | {"step": int(read["step"])})

    def shares(self) -> Numbers | None:
        """``[T]``, what part of the applied gradients' lengths is each loss's."""
        if self.norms is None:
            return None
        lengths = [abs(self.weights[i]) * self.norms[i] for i in self.present]
        whole = math.fsum(lengths)
        if not 0 < whole < math.inf:  # a gradient that is not finite has no share
            return None
        shares = dict(zip(self.present, lengths, strict=True))
        return [shares.get(i, math.nan) / whole for i in range(len(self.losses))]

    def flat(self, names: tuple[str, ...]) -> dict[str, float]:
        """The entry as trackers and tables take it: see `Record.report`.

        Args:
            names: Those of the losses.

        Returns:
            What `Record.report` tells, and ``share/<name>`` and ``skipped/<name>``.
        """
        safe = safe_names(names)
        found: dict[str, float] = {}
        for i in self.present:
            found[f"loss/{safe[i]}"] = self.losses[i]
            found[f"weight/{safe[i]}"] = self.weights[i]
            if self.norms is not None:
                found[f"grad_norm/{safe[i]}"] = self.norms[i]
        if self.cosines is not None:
            for (pair, name), cosine in zip(pair_names(names).items(), self.cosines, strict=True):
                if set(pair) <= set(self.present):
                    found[f"cosine/{name}"] = cosine
        shares = self.shares() or []
        found |= {f"share/{safe[i]}": share for i, share in enumerate(shares) if i in self.present}
        found |= {f"skipped/{safe[i]}": self.skipped[i] for i in range(len(names))}
        return found | {"total": math.fsum(self.losses[i] for i in self.present)}


def _written(value: Any) -> Any:  # noqa: ANN401
    """The same with text for what JSON has no number for, which `float` reads again."""
    if isinstance(value, Mapping):
        return {key: _written(part) for key, part in value.items() if part is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_written(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
