from __future__ import annotations

import pytest
import torch

from equipoise.weighting.dwa import DWA, LONG
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("dwa_libmtl__*") + names("dwa_mtan__*"))
def test_a_window_of_one_step_is_the_references_epoch(name):
    golden = load(name)
    balancer = DWA(
        len(golden.steps[0]["losses"]), temperature=golden.hyperparameters["T"], window=1
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


@pytest.mark.parametrize("told", ["by window", "by call"])
@pytest.mark.parametrize("name", names("dwa_torchjd__*"))
def test_epochs_of_several_batches_follow_the_reference(name, told):
    golden = load(name)
    window = golden.hyperparameters["batches_per_epoch"] if told == "by window" else None
    balancer = DWA(
        golden.hyperparameters["K"], temperature=golden.hyperparameters["T"], window=window
    )
    for index, step in enumerate(golden.steps):
        for batch, loss in zip(step["batches"], step["loss"], strict=True):
            weights = balancer.weigh(tensor(batch))
            assert_matches(golden, weights, step["weights"], f"epoch {index}")
            assert_matches(golden, weights @ tensor(batch), loss, f"epoch {index} loss")
        if told == "by call":
            balancer.end_epoch()


@pytest.mark.parametrize("name", names("dwa_nashmtl__*"))
def test_sliding_windows_follow_nash_mtl(name):
    golden = load(name)
    balancer = DWA(
        golden.hyperparameters["K"],
        temperature=golden.hyperparameters["T"],
        window=golden.hyperparameters["iteration_window"],
        windows="sliding",
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_scaling_a_loss_changes_no_weight():
    plain, scaled = DWA(2, window=1), DWA(2, window=1)
    for _ in range(5):
        values = torch.rand(2, dtype=torch.float64) + 0.1
        expected = plain.weigh(values)
        torch.testing.assert_close(scaled.weigh(values * torch.tensor([1e3, 1.0])), expected)


def test_without_a_window_nothing_changes_until_epochs_end():
    balancer = DWA(2, window=None)
    for _ in range(60):
        assert balancer.weigh(torch.rand(2)).tolist() == [1.0, 1.0]


def test_an_absent_loss_keeps_its_means():
    balancer = DWA(["a", "b"], window=1)
    a, b = (torch.tensor(value, requires_grad=True) for value in (2.0, 1.0))
    for losses in ({"a": a, "b": b}, {"a": a, "b": b}, {"a": 2 * a}):
        balancer(losses)
    assert balancer.previous.tolist() == [4.0, 1.0]
    assert balancer.before_previous.tolist() == [2.0, 1.0]


def test_an_older_mean_of_zero_counts_as_a_loss_that_stalls():
    balancer = DWA(2, window=1)
    for values in ([0.0, 1.0], [1.0, 1.0]):
        balancer.weigh(torch.tensor(values))
    assert balancer.weigh(torch.tensor([1.0, 1.0])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"temperature": 0.0}, "`temperature` is 0.0"),
        ({"window": 0}, "`window` is 0"),
        ({"windows": "hopping"}, "'consecutive' or 'sliding'"),
        ({"window": None, "windows": "sliding"}, "windows that slide need a number"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        DWA(2, **options)


def test_sliding_windows_refuse_to_end():
    with pytest.raises(RuntimeError, match="windows='consecutive'"):
        DWA(2, windows="sliding").end_epoch()


def steps(balancer, count):
    weight = torch.ones(2, requires_grad=True)
    for _ in range(count):
        balancer.backward([weight.sum(), weight.square().sum()])


def test_many_steps_without_the_end_of_an_epoch_are_told_once():
    balancer = DWA(2, window=None)
    steps(balancer, LONG)
    with pytest.warns(UserWarning, match=r"Call `balancer.end_epoch\(\)` after each epoch"):
        steps(balancer, 1)
    steps(balancer, 2)


def test_epochs_that_end_are_not_asked_for():
    balancer = DWA(2, window=None)
    for _ in range(2):
        steps(balancer, LONG // 2)
        balancer.end_epoch()
    steps(balancer, 2)
