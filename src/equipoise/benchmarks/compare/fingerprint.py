"""What a result was computed from and with, so that an old one cannot stand for a new problem."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import equipoise as eq
from equipoise.benchmarks.problem import Problem, Trial

_PROBED_SEED = 0
_DIGITS = 4


@dataclass(frozen=True)
class Fingerprint:
    """What a problem was and what it was computed with; empty where that is not known.

    Args:
        source: Digest of the file in which the problem's ``start`` is written.
        content: Digest of what ``start`` gives: data, initial parameters, first losses, metric.
        equipoise: The version.
        torch: The version.
        device: ``"cpu"``, or the name of the accelerator.
    """

    source: str = ""
    content: str = ""
    equipoise: str = ""
    torch: str = ""
    device: str = ""

    def differences(self, other: Fingerprint) -> list[str]:
        """What differs, in words, for whoever must be told that results are out of date.

        Args:
            other: The fingerprint of earlier results.

        Returns:
            One entry for each difference.
        """
        words = {"source": "its source", "content": "its data or losses"}
        return [
            words.get(name, name)
            for name in (field.name for field in fields(self))
            if getattr(self, name) != getattr(other, name)
        ]


UNKNOWN = Fingerprint()
"""Of results that were written before there were fingerprints."""


def take_fingerprint(problem: Problem, batch_size: int) -> Fingerprint:
    """The fingerprint of a problem as it is now.

    One seed speaks for all: seeds differ in what is drawn, and what is probed is how it is made.

    Args:
        problem: Started once, with a trial of its own, which the probe may change.
        batch_size: Samples in the batch whose losses are probed.

    Returns:
        Its fingerprint.
    """
    torch.manual_seed(_PROBED_SEED)
    trial = problem.start(_PROBED_SEED)
    digest = hashlib.sha256()
    for part in _content(problem, trial, batch_size):
        digest.update(part)
    return Fingerprint(
        source=_source_digest(problem),
        content=digest.hexdigest()[:16],
        equipoise=eq.__version__,
        torch=torch.__version__,
        device=_device_name(trial.data[0].device),
    )


def _source_digest(problem: Problem) -> str:
    start = problem.start
    while isinstance(start, partial):
        start = start.func
    try:
        path = inspect.getsourcefile(inspect.unwrap(start))
        return hashlib.sha256(Path(path or "").read_bytes()).hexdigest()[:16]
    except (OSError, TypeError):  # written in an interactive session, or a callable object
        return ""


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _content(problem: Problem, trial: Trial, batch_size: int) -> Iterator[bytes]:
    yield repr((problem.losses, problem.metric, problem.higher_is_better)).encode()
    for tensor in trial.data:
        yield from _bytes_of("data", tensor)
    for name, tensor in trial.model.state_dict().items():
        yield from _bytes_of(name, tensor)
    yield _rounded("metric", trial.evaluate())
    losses = trial.compute_losses(*(tensor[:batch_size] for tensor in trial.data))
    for name, loss in losses.items():
        yield _rounded(name, loss.item())
    for name, weight in (trial.right_weights or {}).items():
        yield _rounded(name, weight)


def _bytes_of(name: str, tensor: Tensor) -> Iterator[bytes]:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    yield repr((name, tensor.dtype, tuple(tensor.shape))).encode()
    yield flat.view(torch.uint8).numpy().tobytes()


def _rounded(name: str, value: float) -> bytes:
    """A few digits: what is computed on several threads is not the same to the last bit."""
    return f"{name}={value:.{_DIGITS}g}".encode()
