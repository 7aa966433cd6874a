"""Trackers: where else the numbers of a kept step go, told apart by what they can do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from equipoise.words import brief

Send: TypeAlias = Callable[[Mapping[str, float], int], object]
"""Takes the numbers of a step, by name, and the step."""


def sender(tracker: Any) -> Send:  # noqa: ANN401
    """How a tracker takes numbers.

    Args:
        tracker: TensorBoard's ``SummaryWriter``, a run of Weights & Biases, the module ``mlflow``,
            a logger of Lightning, a ``Fabric``, an ``Accelerator``, or ``fn(numbers, step)``.

    Raises:
        TypeError: If it takes none.
    """
    if hasattr(tracker, "add_scalar"):
        return lambda numbers, step: [
            tracker.add_scalar(name, number, step) for name, number in numbers.items()
        ]
    for method in ("log_metrics", "log_dict", "log"):
        if hasattr(tracker, method):
            log = getattr(tracker, method)
            return lambda numbers, step: log(dict(numbers), step=step)
    if callable(tracker):
        return lambda numbers, step: tracker(dict(numbers), step)
    msg = (
        f"`tracker` is {brief(tracker)}, which takes no numbers. Pass a SummaryWriter, a wandb "
        "run, the module mlflow, a logger of Lightning, an Accelerator, or fn(numbers, step)."
    )
    raise TypeError(msg)


class Tracked:
    """A tracker whose failures stop no training.

    The first is told in a warning. Since a server that is gone may keep the training waiting with
    each call, the pauses between attempts double.

    Args:
        tracker: See `sender`.
    """

    def __init__(self, tracker: Any) -> None:  # noqa: ANN401
        self._send = sender(tracker)
        self._called = type(tracker).__name__
        self._failures = 0
        self._pause = 0
        self._told = False

    def __call__(self, numbers: Mapping[str, float], step: int) -> None:
        """Sends the numbers of a step."""
        if self._pause:
            self._pause -= 1
            return
        try:
            self._send(numbers, step)
        except Exception as error:  # noqa: BLE001  (whatever a tracker raises)
            self._pause = 2**self._failures
            self._failures += 1
            self._warn(error)
        else:
            self._failures = 0

    def _warn(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"The tracker {self._called} failed ({type(error).__name__}: {error}). The "
                "training goes on, and now and then another attempt is made.",
                stacklevel=2,
            )
