from __future__ import annotations

import pytest
import torch

from equipoise.weighting.pbi import PBI
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("pbi_torchjd__*"))
def test_weights_follow_the_reference(name):
    golden = load(name)
    options = golden.hyperparameters
    for index, step in enumerate(golden.steps):
        balancer = PBI(
            len(step["losses"]),
            preference=step["preference"],
            reference=step["reference"],
            theta=options["theta"],
            eps=options["eps"],
        )
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_weights_are_the_gradient_of_the_way_along_and_the_distance_from_the_ray():
    preference, ideal = tensor([0.2, 0.5, 0.3]), tensor([0.1, -0.2, 0.0])
    values = torch.rand(3, dtype=torch.float64, requires_grad=True)
    ray = preference / preference.norm()
    along = (values - ideal) @ ray
    distance = (values - ideal - along * ray).norm()
    (slope,) = torch.autograd.grad(along + 3.0 * distance, values)
    weights = PBI(3, preference=preference, reference=ideal, theta=3.0).weigh(values)
    torch.testing.assert_close(weights, slope)


def test_the_length_of_the_preference_does_not_matter():
    values = tensor([0.4, 1.0])
    short, long = PBI(2, preference=[0.1, 0.2]), PBI(2, preference=[1.0, 2.0])
    torch.testing.assert_close(short.weigh(values), long.weigh(values))


def test_an_eps_of_zero_is_refused():
    with pytest.raises(ValueError, match="`eps` is 0"):
        PBI(2, eps=0.0)
