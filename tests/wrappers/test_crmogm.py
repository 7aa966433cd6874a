from __future__ import annotations

from functools import partial

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.base import Aggregation
from equipoise.aggregation.gradnorm import GradNorm
from equipoise.aggregation.trimmed_mean import TrimmedMean
from equipoise.aggregation.upgrad import UPGrad
from equipoise.weighting.fixed import Fixed
from equipoise.weighting.softadapt import SoftAdapt
from equipoise.wrappers.crmogm import CRMOGM
from tests.aggregation.following import follow_gradient, follow_live, follow_weights, seen
from tests.golden import assert_matches, load, tensor


class Told(Aggregation):
    """Weights that the trajectory gives, step by step."""

    told = None

    def _weigh(self, values, gradients):
        return self.told


@pytest.mark.parametrize("name", ["crmogm_torchjd_mgda_0.9", "crmogm_torchjd_upgrad_0.9"])
def test_smoothing_follows_torchjd_for_its_inner_weights(name):
    golden = load(name)
    balancer = CRMOGM(3, inner=Told)
    for i, step in enumerate(golden.steps):
        balancer.inner.told = tensor(step["state"]["inner_weights"])
        weights = balancer.weigh(*seen(step))
        assert_matches(golden, weights, step["weights"], f"step {i} weights")


def test_around_upgrad_it_follows_torchjd():
    golden = load("crmogm_torchjd_upgrad_0.9")
    follow_weights(golden, CRMOGM(3, inner=UPGrad))
    follow_gradient(golden, CRMOGM(3, inner=UPGrad))
    follow_live(golden, CRMOGM(3, inner=UPGrad))


def test_alpha_may_be_scheduled_and_the_start_be_given():
    balancer = CRMOGM(
        ["a", "b"], inner=partial(Fixed, weights=[1.0, 0.0]), initial={"a": 0, "b": 1}
    )
    expected = torch.tensor([0.0, 1.0])
    for alpha in (0.5, 0.9, 1.0):
        balancer.alpha = alpha
        weights = balancer.weigh(torch.ones(2), Gradients(torch.eye(2)))
        expected = alpha * expected + (1 - alpha) * torch.tensor([1.0, 0.0])
        torch.testing.assert_close(weights, expected)


def test_the_wrapped_methods_state_is_saved_and_rests_for_absent_losses():
    balancer = CRMOGM(3, inner=partial(SoftAdapt, order=1, beta=1.0))
    gradients = Gradients(torch.randn(3, 4))
    for step in range(3):
        balancer.weigh(torch.rand(3) + step, gradients)
    kept = balancer.inner.history[1].clone()
    with balancer.among((0, 2)):
        balancer.weigh(torch.rand(2), Gradients(torch.randn(2, 4)))
    assert torch.equal(balancer.inner.history[1], kept)
    resumed = CRMOGM(3, inner=partial(SoftAdapt, order=1, beta=1.0))
    resumed.load_state_dict(balancer.state_dict())
    values = torch.rand(3)
    ours, theirs = (b.weigh(values, gradients) for b in (balancer, resumed))
    assert torch.equal(ours, theirs)


def test_it_watches_where_the_wrapped_method_does():
    trunk = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    x = torch.randn(5, 3)

    def losses():
        return list(trunk(x).square().mean(0))

    alone, wrapped = GradNorm(2), CRMOGM(2, inner=GradNorm, alpha=0.0)
    for _ in range(2):
        alone.backward(losses())
        wrapped.backward(losses())
    torch.testing.assert_close(alone.last.weights, wrapped.last.weights)


def test_a_method_without_weights_is_refused_by_name():
    with pytest.raises(TypeError, match="TrimmedMean is no weighting"):
        CRMOGM(3, inner=TrimmedMean)
    with pytest.raises(ValueError, match="`alpha` is 2"):
        CRMOGM(3, alpha=2.0)
