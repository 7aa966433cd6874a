from __future__ import annotations

import pytest
import torch

from equipoise.gradients.gradients import Gradients
from equipoise.weighting.random_weights import RandomWeights, draw, weights_of
from tests.golden import assert_matches, load, names, tensor

ALL = ("normal", "uniform", "dirichlet", "bernoulli", "constrained_bernoulli")


@pytest.mark.parametrize("name", names("rlw_*") + names("random_torchjd"))
def test_a_given_draw_has_the_references_weights(name):
    golden = load(name)
    for index, step in enumerate(golden.steps):
        drawn = step["random"]["normal"] if isinstance(step["random"], dict) else step["random"]
        weights = weights_of(tensor(drawn), "normal")
        assert_matches(golden, weights, step["weights"], f"step {index}")
        if "gradient" in step:
            gradient = Gradients(tensor(step["jacobian"])).combine(weights)
            assert_matches(golden, gradient, step["gradient"], f"step {index}")


def test_the_weights_of_a_step_are_those_of_the_generators_next_draw():
    balancer = RandomWeights(4, generator=torch.Generator().manual_seed(5))
    draws = torch.Generator().manual_seed(5)
    for _ in range(3):
        expected = torch.softmax(torch.randn(4, generator=draws), dim=0)
        torch.testing.assert_close(balancer.weigh(torch.ones(4)), expected)


@pytest.mark.parametrize("distribution", ALL)
def test_weights_are_shares_that_are_even_on_average(distribution):
    generator = torch.Generator().manual_seed(0)
    drawn = [weights_of(draw(distribution, 3, generator), distribution) for _ in range(4000)]
    weights = torch.stack(drawn)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4000))
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.mean(dim=0), torch.full((3,), 1 / 3), atol=0.03, rtol=0)


def test_distributions_differ_in_their_spread():
    generator = torch.Generator().manual_seed(0)
    spreads = [
        torch.stack([weights_of(draw(name, 3, generator), name) for _ in range(4000)]).var().item()
        for name in ("uniform", "normal", "bernoulli", "constrained_bernoulli")
    ]
    assert spreads == sorted(spreads)
    assert spreads[0] > 0


def test_constrained_bernoulli_chooses_one_loss():
    balancer = RandomWeights(3, distribution="constrained_bernoulli")
    for _ in range(20):
        assert sorted(balancer.weigh(torch.ones(3)).tolist()) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("distribution", ALL)
def test_a_saved_balancer_goes_on_with_the_same_draws(distribution):
    balancer = RandomWeights(3, distribution=distribution)
    balancer.weigh(torch.ones(3))
    resumed = RandomWeights(3, distribution=distribution)
    resumed.load_state_dict(balancer.state_dict())
    for _ in range(10):
        assert torch.equal(resumed.weigh(torch.ones(3)), balancer.weigh(torch.ones(3)))


def test_torchs_seed_fixes_the_draws_of_an_own_generator():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(RandomWeights(3).weigh(torch.ones(3)))
    assert torch.equal(*weights)


def test_absent_losses_get_nothing_and_the_others_share_all():
    balancer = RandomWeights(["a", "b", "c"])
    balancer({"a": torch.tensor(1.0, requires_grad=True), "c": torch.ones((), requires_grad=True)})
    assert balancer.weights["b"] == 0
    assert sum(balancer.weights.values()) == pytest.approx(1.0)


def test_an_unknown_distribution_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'normal', 'uniform', 'dirichlet'"):
        RandomWeights(2, distribution="gaussian")
