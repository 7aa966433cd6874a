from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.sdmgrad import SDMGrad
from tests.golden import assert_matches, load, tensor
from tests.models import MultiHead, batch, flat_grad, jacobian


def followed(golden, balancer, order):
    """Balanced gradients of a trajectory; ``order`` names the first, second and last batch."""
    for i, step in enumerate(golden.steps):
        first, second, last = (Gradients(tensor(step["jacobians"][place])) for place in order)
        balancer.observe(first)
        balancer.observe(second)
        weights = balancer.weigh(torch.ones(3).double(), last)
        assert_matches(golden, last.combine(weights), step["gradient"], f"step {i}")
        yield i, step, weights


def test_gradients_and_weights_follow_torchjd():
    golden = load("sdmgrad_torchjd")
    for i, step, weights in followed(golden, SDMGrad(3), (0, 1, 2)):
        assert_matches(golden, weights, step["weights"], f"step {i} weights")


def test_gradients_and_state_follow_libmtl():
    golden = load("sdmgrad_libmtl")
    balancer = SDMGrad(3, lr=5.0)
    for i, step, _ in followed(golden, balancer, (1, 2, 0)):
        assert_matches(golden, balancer.descended, step["state"]["w"], f"step {i} w")


def test_a_large_lambda_goes_where_the_preference_says():
    gradients = Gradients(torch.randn(3, 5))
    balancer = SDMGrad(["a", "b", "c"], lambda_=1e6, preference={"a": 0.5, "b": 0.2, "c": 0.3})
    torch.testing.assert_close(
        balancer.weigh(torch.ones(3), gradients), torch.tensor([0.5, 0.2, 0.3])
    )


def test_with_one_batch_small_steps_find_the_minimum_norm_weights():
    gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64))
    balancer = SDMGrad(2, lambda_=0.0, lr=0.1, n_iter=500)
    weights = balancer.weigh(torch.ones(2).double(), gradients)
    torch.testing.assert_close(weights, torch.tensor([0.8, 0.2]).double())


@pytest.mark.parametrize("options", [{"lambda_": -1.0}, {"lr": 0.0}, {"n_iter": 0}])
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        SDMGrad(2, **options)


def test_a_losses_own_parameters_get_its_plain_gradient():
    model, x = MultiHead(4), batch()
    heads = list(model.heads.parameters())
    plain = jacobian(model(x), heads).sum(0)
    SDMGrad(4).backward(model(x))
    torch.testing.assert_close(flat_grad(heads), plain)
