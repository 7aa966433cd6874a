from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.stream import batches, run_length
from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.small import problem


def trial_with(data):
    return dataclasses.replace(start_trial(problem(), 0), data=data)


def steps(count, batch_size=None):
    return TrainingOptions(epochs=None, batch_size=batch_size, lr=0.1, steps=count)


def loader():
    data = TensorDataset(torch.arange(6.0), torch.arange(6.0, 12.0))
    return DataLoader(data, batch_size=4, shuffle=True)


def test_steps_go_on_into_the_next_epoch():
    seen = list(batches(trial_with((torch.arange(6.0),)), steps(5, batch_size=2), seed=0))
    assert len(seen) == 5
    assert sorted(torch.cat([batch[0] for batch in seen[:3]]).tolist()) == list(range(6))


def test_batches_of_a_loader_come_as_they_are_the_same_for_the_same_seed():
    first, same, other = (
        [batch[0].tolist() for batch in batches(trial_with(loader()), steps(4), seed)]
        for seed in (3, 3, 4)
    )
    assert first == same != other
    assert [len(batch) for batch in first] == [4, 2, 4, 2]


def test_an_epoch_of_a_loader_has_as_many_steps_as_it_has_batches():
    options = TrainingOptions(epochs=3, batch_size=None, lr=0.1)
    assert run_length(trial_with(loader()), options) == 6


@pytest.mark.parametrize(
    "draw",
    [
        torch.rand,
        lambda size: torch.tensor(np.random.rand(size)),  # noqa: NPY002
        lambda size: torch.tensor([random.random() for _ in range(size)]),
    ],
    ids=["torch", "numpy", "python"],
)
def test_a_method_that_draws_random_numbers_is_given_the_same_points(draw):
    trial = trial_with(lambda size: (draw(size),))
    alone = [float(batch[0].sum()) for batch in batches(trial, steps(3, batch_size=5), seed=0)]
    beside = []
    for batch in batches(trial, steps(3, batch_size=5), seed=0):
        draw(17)
        beside.append(float(batch[0].sum()))
    assert alone == beside
    assert len(set(alone)) == 3


def test_drawing_a_batch_takes_no_number_from_the_method():
    torch.manual_seed(0)
    undisturbed = torch.rand(2).tolist()
    torch.manual_seed(0)
    stream = batches(trial_with(torch.rand), steps(2, batch_size=5), seed=0)
    assert [torch.rand(1).item() for _ in stream] == undisturbed


def test_a_problem_without_data_has_empty_batches():
    assert list(batches(trial_with(()), steps(3), seed=0)) == [(), (), ()]


@pytest.mark.parametrize("batch", [torch.ones(2, 3), {"x": torch.ones(2)}])
def test_a_batch_that_is_no_sequence_is_one_argument(batch):
    ((found,),) = batches(trial_with([batch]), steps(1), seed=0)
    assert found is batch


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((torch.ones(4),), steps(1), "give --batch-size"),
        (lambda _size: (), steps(1), "give --batch-size"),
        (loader(), steps(1, batch_size=8), "leave out --batch-size 8"),
        ((), TrainingOptions(1, None, 0.1), "give --steps"),
        (itertools.repeat(()), TrainingOptions(1, None, 0.1), "give --steps"),
        (iter([torch.ones(2)]), steps(2), "have no more batches"),
    ],
)
def test_data_and_options_that_do_not_fit_are_refused(data, options, message):
    with pytest.raises(RequestError, match=message):
        list(batches(trial_with(data), options, seed=0))
