from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from equipoise.weighting.cosmos import COSMOS
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("cosmos_*"))
def test_weights_follow_the_reference_under_the_preference_of_each_step(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = COSMOS(len(golden.steps[0]["losses"]), lam=options["lam"], eps=options["cosine_eps"])
    balancer.weigh(tensor(golden.steps[0]["losses"]))  # float64 values make the state float64
    for index, step in enumerate(golden.steps):
        balancer.prefer(step["preference"])
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_weights_are_the_gradient_of_the_penalised_sum():
    preference = tensor([0.2, 0.5, 0.3])
    values = torch.rand(3, dtype=torch.float64, requires_grad=True)
    cosine = cosine_similarity(preference, values, dim=0)
    (slope,) = torch.autograd.grad(preference @ values - 2.5 * cosine, values)
    weights = COSMOS(3, preference=preference, lam=2.5).weigh(values)
    torch.testing.assert_close(weights, slope)


def test_on_the_preferred_ray_the_penalty_vanishes():
    preference = tensor([0.2, 0.8])
    weights = COSMOS(2, preference=preference, lam=100.0).weigh(3 * preference)
    torch.testing.assert_close(weights, preference)


def test_losses_of_zero_leave_finite_weights():
    assert COSMOS(2).weigh(tensor([0.0, 0.0])).isfinite().all()


def test_an_eps_of_zero_is_refused():
    with pytest.raises(ValueError, match="`eps` is 0"):
        COSMOS(2, eps=0.0)
