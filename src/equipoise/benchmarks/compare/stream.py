"""The batches of a run: the same for every method, whatever a trial's data are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, TypeAlias

import torch
from torch import Tensor

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.problem import Draw, Trial
from equipoise.benchmarks.random_numbers import RandomNumbers
from equipoise.benchmarks.refusal import RequestError

Batch: TypeAlias = "tuple[Any, ...]"
"""The arguments of `Trial.compute_losses`."""

_OTHER_NUMBERS = 1 << 32
"""Added to the seed, so that points are drawn with other numbers than initial parameters were."""


def batches(trial: Trial, options: TrainingOptions, seed: int) -> Iterator[Batch]:
    """The batches of a run, in an order that only the seed decides.

    Args:
        trial: Holds the data.
        options: Batch size and number of epochs or steps.
        seed: Decides the order, and what is drawn.

    Returns:
        As many batches as the run has steps.

    Raises:
        RequestError: If data and options do not fit together.
    """
    return itertools.islice(endless_batches(trial, options, seed), run_length(trial, options))


def run_length(trial: Trial, options: TrainingOptions) -> int:
    """How many steps a run has.

    Args:
        trial: Holds the data.
        options: Number of epochs or steps.

    Returns:
        The number.

    Raises:
        RequestError: If epochs are asked for, and the data have no length.
    """
    if options.epochs is None:
        return options.steps or 0
    return options.epochs * steps_per_epoch(trial, options)


def steps_per_epoch(trial: Trial, options: TrainingOptions) -> int:
    """How many whole batches an epoch has, at least one."""
    data = trial.data
    if isinstance(data, tuple) and data:
        return max(1, len(data[0]) // _known(options.batch_size))
    if isinstance(data, Sized) and len(data):
        return len(data)
    raise RequestError("The problem's data have no length to count epochs by; give --steps.")


def endless_batches(trial: Trial, options: TrainingOptions, seed: int) -> Iterator[Batch]:
    """Epoch after epoch, without an end.

    What the data draw from the global generators is a sequence of its own: a method that draws as
    well is given the same batches as all others.

    Args:
        trial: Holds the data.
        options: Batch size.
        seed: Decides the order, and what is drawn.

    Returns:
        The arguments of `Trial.compute_losses`, step by step.

    Raises:
        RequestError: If the problem needs a batch size, or makes its own batches.
    """
    data, size = trial.data, options.batch_size
    if isinstance(data, tuple) and data:
        return _slices(data, _known(size), steps_per_epoch(trial, options), seed)
    if callable(data):
        return _with_own_numbers(_drawn(data, _known(size)), seed + _OTHER_NUMBERS)
    if size is not None:
        raise RequestError(f"The problem makes its own batches; leave out --batch-size {size}.")
    passes = _repeated(data) if data != () else itertools.repeat(())
    return _with_own_numbers(passes, seed + _OTHER_NUMBERS)


def _known(size: int | None) -> int:
    if size is None:
        raise RequestError("The problem does not say how large a batch is; give --batch-size.")
    return size


def _slices(
    data: Sequence[Tensor], size: int, whole_batches: int, seed: int
) -> Iterator[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data[0]), generator=generator)
        for chosen in order.split(size)[:whole_batches]:
            yield tuple(tensor[chosen] for tensor in data)


def _drawn(draw: Draw, size: int) -> Iterator[Batch]:
    while True:
        yield _arguments(draw(size))


def _repeated(data: Iterable[object]) -> Iterator[Batch]:
    while True:
        empty = True
        for batch in data:
            empty = False
            yield _arguments(batch)
        if empty:  # as is a generator gone through before
            raise RequestError(
                "The problem's data have no more batches; give a DataLoader, or anything that can "
                "be gone through again."
            )


def _arguments(batch: object) -> Batch:
    """A DataLoader gives a list where its data set gives a tuple; a mapping is one argument."""
    return tuple(batch) if isinstance(batch, tuple | list) else (batch,)


def _with_own_numbers(stream: Iterator[Batch], seed: int) -> Iterator[Batch]:
    own = RandomNumbers.of_seed(seed)
    while True:
        others = RandomNumbers.now()
        own.put_back()
        try:
            batch = next(stream)
            own = RandomNumbers.now()
        finally:
            others.put_back()
        yield batch
