"""What a user asked `equipoise compare` for: how every run is trained, and with which seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from equipoise.benchmarks.refusal import RequestError


@dataclass(frozen=True)
class TrainingOptions:
    """How every run of one comparison is trained; the same for all methods.

    Args:
        epochs: Passes over the training data.
        batch_size: Samples per step; a last, smaller batch of an epoch is left out.
        lr: The learning rate of Adam, and of the optimizers that take its place.

    Raises:
        RequestError: If one of them is not positive.

    Example:
        >>> TrainingOptions(epochs=3, batch_size=32, lr=1e-3).epochs
        3
    """

    epochs: int
    batch_size: int
    lr: float

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise RequestError(f"--{option} is at least 1; got {getattr(self, name)}.")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise RequestError(f"--lr is a positive number, for example 0.001; got {self.lr}.")


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
