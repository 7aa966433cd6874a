from __future__ import annotations

import pytest
import torch

import equipoise as eq
from tests.golden import assert_matches, load, names, tensor

# What each project multiplies exp(-s) L and s with.
FACTORS = {"cov": (1.0, 1.0), "ludwig": (1.0, 0.5)}


def factors(name: str) -> tuple[float, float]:
    return FACTORS.get(name.removeprefix("uw_").split("__")[0], (0.5, 0.5))


@pytest.mark.parametrize("name", names("uw_*__traj"))
def test_learned_log_variances_follow_the_reference(name) -> None:
    golden = load(name)
    hyper = golden.hyperparameters
    factor, regulariser = factors(name)
    balancer = eq.Uncertainty(
        hyper["T"],
        factor=factor,
        regulariser=regulariser,
        initial=hyper["init"],
        lr=hyper["lr"],
        optimizer=hyper["optimizer"],
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index} weights")
        assert_matches(golden, balancer.log_variances, step["log_var"], f"step {index} s")


@pytest.mark.parametrize("name", names("uw_*__values"))
def test_weights_and_gradients_at_given_log_variances_are_the_reference_s(name) -> None:
    golden = load(name)
    factor, regulariser = factors(name)
    for index, step in enumerate(golden.steps):
        given = tensor(step["log_var"])
        balancer = eq.Uncertainty(
            len(given),
            factor=factor,
            regulariser=regulariser,
            initial=given,
            limit=20.0 if "ludwig" in name else float("inf"),
            lr=1.0,
            optimizer="sgd",
        )
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index} weights")
        moved = given - balancer.log_variances
        torch.testing.assert_close(moved, tensor(step["log_var_grad"]), rtol=1e-9, atol=1e-9)


def test_the_optimum_is_the_logarithm_of_the_loss() -> None:
    balancer = eq.Uncertainty(2, optimizer="sgd", lr=0.5)
    for _ in range(500):
        balancer.weigh(tensor([3.0, 0.2]))
    torch.testing.assert_close(balancer.log_variances, tensor([3.0, 0.2]).log())


def test_weights_before_the_first_step_are_those_it_will_apply() -> None:
    balancer = eq.Uncertainty(["a", "b"], initial={"a": -0.5, "b": 0.0})
    assert balancer.weights["a"] == pytest.approx(0.5 * torch.tensor(0.5).exp().item())
    assert balancer.weights["b"] == 0.5
