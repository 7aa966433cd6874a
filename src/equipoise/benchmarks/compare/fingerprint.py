"""What a result was computed from and with, so that an old one cannot stand for a new problem."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import equipoise as eq
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.stream import Batch, endless_batches
from equipoise.benchmarks.measuring import measuring
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.random_numbers import seed_all

_PROBED_SEED = 0
_DIGITS = 4


@dataclass(frozen=True)
class Fingerprint:
    """What a problem was and what it was computed with; empty where that is not known.

    Args:
        source: Digest of the files in which the problem's ``start`` and the functions of its trial
            are written.
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


def take_fingerprint(problem: Problem, batch_size: int | None) -> Fingerprint:
    """The fingerprint of a problem as it is now.

    One seed speaks for all: seeds differ in what is drawn, and what is probed is how it is made.

    Args:
        problem: Started once, with a trial of its own, which the probe may change.
        batch_size: Samples in the batch whose losses are probed; ``None`` where the problem makes
            its own batches.

    Returns:
        Its fingerprint.
    """
    seed_all(_PROBED_SEED)
    trial = problem.start(_PROBED_SEED)
    digest = hashlib.sha256()
    for part in _content(problem, trial, batch_size):
        digest.update(part)
    return Fingerprint(
        source=_source_digest(problem, trial),
        content=digest.hexdigest()[:16],
        equipoise=eq.__version__,
        torch=torch.__version__,
        device=_device_name(trial.device),
    )


def _source_digest(problem: Problem, trial: Trial) -> str:
    functions: list[Callable[..., object] | None] = [problem.start, trial.compute_losses]
    functions += [trial.evaluate, trial.validate, trial.kpis, trial.step, trial.finish]
    digest = hashlib.sha256()
    for path in dict.fromkeys(filter(None, map(_source_file, functions))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16] if _source_file(problem.start) else ""


def _source_file(function: Callable[..., object] | None) -> Path | None:
    """Where it is written; none of an interactive session, or of a callable object."""
    while isinstance(function, partial):
        function = function.func
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(function)) or "")  # type: ignore[arg-type]
    except TypeError:
        return None
    return path if path.is_file() else None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _content(problem: Problem, trial: Trial, batch_size: int | None) -> Iterator[bytes]:
    yield repr((problem.losses, problem.metric, problem.higher_is_better)).encode()
    if problem.metrics:
        yield repr(problem.metrics).encode()
    data, batch = _probed(trial, batch_size)
    for tensor in data:
        yield from _bytes_of("data", tensor)
    if isinstance(trial.data, Sized) and not isinstance(trial.data, tuple):
        yield repr(("batches", len(trial.data))).encode()
    for name, tensor in trial.model.state_dict().items():
        yield from _bytes_of(name, tensor)
    with measuring(trial.model):
        summary, metrics = problem.judge(trial.evaluate())
    yield _rounded("metric", summary)
    for name, value in metrics.items() if problem.metrics else ():
        yield _rounded(name, value)
    for name, loss in trial.compute_losses(*batch).items():
        yield _rounded(name, loss.item())
    for name, weight in (trial.right_weights or {}).items():
        yield _rounded(name, weight)


def _probed(trial: Trial, batch_size: int | None) -> tuple[list[Tensor], Batch]:
    """The data, as much of them as is at hand, and a batch of them."""
    if isinstance(trial.data, tuple):
        return list(trial.data), tuple(tensor[:batch_size] for tensor in trial.data)
    options = TrainingOptions(epochs=None, batch_size=batch_size, lr=1.0, steps=1)
    batch = next(endless_batches(trial, options, _PROBED_SEED))
    return [part for part in batch if isinstance(part, Tensor)], batch


def _bytes_of(name: str, tensor: Tensor) -> Iterator[bytes]:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    yield repr((name, tensor.dtype, tuple(tensor.shape))).encode()
    yield flat.view(torch.uint8).numpy().tobytes()


def _rounded(name: str, value: float) -> bytes:
    """A few digits: what is computed on several threads is not the same to the last bit."""
    return f"{name}={value:.{_DIGITS}g}".encode()
