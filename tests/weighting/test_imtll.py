from __future__ import annotations

import pytest
import torch

from equipoise.weighting.imtll import IMTLL
from equipoise.weighting.uncertainty import Uncertainty
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("imtl_l_torchjd__traj*"))
def test_trajectories_follow_the_reference(name):
    golden = load(name)
    given = golden.hyperparameters
    balancer = IMTLL(
        given["T"], initial=given["init"], optimizer=given["optimizer"], lr=given["lr"]
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")
        assert_matches(golden, balancer.log_weights, step["log_var"], f"step {index} s")


@pytest.mark.parametrize("name", names("imtl_l_torchjd__values*"))
def test_a_plain_step_goes_along_the_references_gradient(name):
    golden = load(name)
    for index, step in enumerate(golden.steps):
        balancer = IMTLL(golden.hyperparameters["T"], optimizer="sgd", lr=1.0)
        start = tensor(step["log_var"])
        balancer.log_weights = start
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")
        gradient = start - balancer.log_weights
        assert_matches(golden, gradient, step["log_var_grad"], f"step {index} gradient")


def test_scaled_losses_come_to_one():
    balancer = IMTLL(2, optimizer="sgd", lr=0.1)
    values = torch.tensor([5.0, 0.2], dtype=torch.float64)
    for _ in range(400):
        weights = balancer.weigh(values)
    torch.testing.assert_close(weights * values, torch.ones_like(values))


def test_it_is_uncertainty_weighting_with_both_halves_doubled_and_the_sign_turned():
    ours = IMTLL(2, optimizer="sgd", lr=0.05)
    theirs = Uncertainty(2, factor=1.0, regulariser=1.0, optimizer="sgd", lr=0.05)
    for _ in range(5):
        values = torch.rand(2, dtype=torch.float64)
        torch.testing.assert_close(ours.weigh(values), theirs.weigh(values))


def test_the_weights_before_the_first_step_are_the_initial_ones():
    balancer = IMTLL(["a", "b"], initial={"a": 0.0, "b": 1.0})
    assert balancer.weights == pytest.approx({"a": 1.0, "b": 2.7182818})


def test_initial_numbers_are_exact_for_losses_in_float64():
    balancer = IMTLL(2, initial=[0.1, -0.3])
    assert balancer.log_weights.dtype == torch.float32
    balancer.follow(torch.ones(2).double())
    assert balancer.log_weights.tolist() == [0.1, -0.3]
