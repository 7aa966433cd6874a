"""What a user asked `equipoise compare` for: how every run is trained, and with which seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from equipoise.benchmarks.refusal import RequestError


@dataclass(frozen=True)
class TrainingOptions:
    """How every run of one comparison is trained; the same for all methods.

    Args:
        epochs: Passes over the training data; ``None`` where steps are counted.
        batch_size: Samples per step; a last, smaller batch of an epoch is left out. ``None`` where
            the problem makes its own batches.
        lr: The learning rate of the problem's optimizer, and of those that take its place.
        steps: How many, in place of epochs.
        optimizer: Its name, in place of the problem's own; empty for that.
        seconds: How long all methods train alike, in place of epochs; the steps of each follow from
            their price, and stand beside it in its runs.

    Raises:
        RequestError: If one of them is not positive, or the length is given twice, or not at all.

    Example:
        >>> TrainingOptions(epochs=3, batch_size=32, lr=1e-3).epochs
        3
    """

    epochs: int | None
    batch_size: int | None
    lr: float
    steps: int | None = None
    optimizer: str = ""
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"--{name.replace('_', '-')} is at least 1; got {value}.")
        lengths = [self.epochs, self.steps if self.seconds is None else self.seconds]
        if sum(length is not None for length in lengths) != 1:
            raise RequestError("Give one of --epochs, --steps and --budget, not several.")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise RequestError(f"--lr is a positive number, for example 0.001; got {self.lr}.")

    @property
    def length(self) -> str:
        """How long a run is, in words.

        Example:
            >>> TrainingOptions(epochs=3, batch_size=32, lr=1e-3).length
            '3 epochs, batches of 32'
            >>> TrainingOptions(epochs=1, batch_size=32, lr=1e-3).length
            '1 epoch, batches of 32'
        """
        if self.seconds is not None:
            return self._with_batches(f"{self.seconds:g} s of steps")
        count, unit = (self.steps, "step") if self.epochs is None else (self.epochs, "epoch")
        return self._with_batches(f"{count} {unit}{'' if count == 1 else 's'}")

    def _with_batches(self, counted: str) -> str:
        return counted if self.batch_size is None else f"{counted}, batches of {self.batch_size}"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads `--seeds`: a count, or the seeds themselves.

    Args:
        text: ``"5"`` means the seeds 0 to 4; ``"3,8"`` means 3 and 8; ``"7,"`` means 7 alone.

    Returns:
        The seeds, in order, each once.

    Raises:
        RequestError: If the text is neither.

    Example:
        >>> parse_seeds("3"), parse_seeds("3,8"), parse_seeds("7,")
        ((0, 1, 2), (3, 8), (7,))
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise RequestError(f"--seeds is a count such as 5 or a list such as 3,8,12; got {text!r}.")
    numbers = tuple(dict.fromkeys(int(part) for part in parts))
    if "," in text:
        return numbers
    if numbers[0] < 1:
        raise RequestError(f"--seeds is at least 1; for the single seed {text} write {text},")
    return tuple(range(numbers[0]))
