from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.aggregation.gradient_shares import GradientShares
from equipoise.gradients.gradients import Gradients
from equipoise.weighting.fixed import Fixed
from tests.golden import Golden, assert_matches, load, tensor
from tests.models import MultiHead, batch, jacobian

SCALES = st.floats(-6, 6).map(lambda exponent: 10.0**exponent)


def encodec(golden: Golden) -> GradientShares:
    options = golden.hyperparameters
    item = math.prod(tensor(golden.steps[0]["gradients"]).shape[2:])
    return GradientShares(
        len(options["weights"]),
        shares=options["weights"],
        total_norm=options["total_norm"],
        ema_decay=options["ema_decay"],
        item_size=item if options["per_batch_item"] else None,
        eps=options["epsilon"],
    )


@pytest.mark.parametrize("name", ["encodec_balancer_default", "encodec_balancer_wholebatch"])
def test_the_combined_gradient_follows_encodec(name):
    golden = load(name)
    balancer = encodec(golden)
    for index, step in enumerate(golden.steps):
        gradients = Gradients(tensor(step["gradients"]).flatten(1))
        combined = balancer.combine(tensor(step["losses"]), gradients)
        assert_matches(golden, combined, tensor(step["gradient"]).flatten(), f"step {index}")


@pytest.mark.parametrize("name", ["encodec_balancer_default", "encodec_balancer_wholebatch"])
def test_the_gradient_of_a_live_output_follows_encodec(name):
    golden = load(name)
    balancer = encodec(golden)
    for index, step in enumerate(golden.steps):
        parts = tensor(step["gradients"])
        parameter = torch.zeros_like(parts[0], requires_grad=True)
        output = parameter * 1.0
        values = tensor(step["losses"])
        losses = [value + (g * output).sum() for value, g in zip(values, parts, strict=True)]
        balancer.backward(losses, wrt=output)
        assert_matches(golden, parameter.grad, step["gradient"], f"step {index}")


@pytest.fixture
def _float64_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_float64_by_default")
def test_encodec_without_rescaling_is_fixed_weights():
    golden = load("encodec_balancer_norescale")
    shares = golden.hyperparameters["weights"]
    fixed = Fixed(len(shares), shares)
    for index, step in enumerate(golden.steps):
        weights = fixed.weigh(tensor(step["losses"]))
        combined = Gradients(tensor(step["gradients"]).flatten(1)).combine(weights)
        assert_matches(golden, combined, tensor(step["gradient"]).flatten(), f"step {index}")


@given(scales=st.tuples(SCALES, SCALES))
def test_shares_of_the_gradient_hold_whatever_the_scales_of_the_losses(scales):
    model = MultiHead(heads=2)
    hidden = model.trunk(batch())
    losses = [
        scale * (head(hidden) - 1).square().mean()
        for scale, head in zip(scales, model.heads, strict=True)
    ]
    norms = jacobian(losses, [hidden]).norm(dim=1)
    balancer = GradientShares(["a", "b"], shares={"a": 0.8, "b": 0.2})
    record = balancer.backward(dict(zip("ab", losses, strict=True)))
    shares = record.weights * norms / (record.weights * norms).sum()
    torch.testing.assert_close(shares, tensor([0.8, 0.2]), rtol=1e-2, atol=0)


@pytest.mark.parametrize("watched", ["shared", "trunk"])
def test_shares_hold_over_a_set_of_parameters(watched):
    model = MultiHead(heads=3)
    balancer = GradientShares(
        3,
        shares=[5.0, 3.0, 2.0],
        total_norm=7.0,
        ema_decay=0.0,
        wrt=model.trunk if watched == "trunk" else watched,
    )
    for scale in (1.0, 1e4, 1e-4):
        losses = [losses * scale for losses in model(batch())]
        norms = jacobian(losses, list(model.trunk.parameters())).norm(dim=1)
        weights = balancer.backward(losses).weights
        torch.testing.assert_close(weights * norms, tensor([3.5, 2.1, 1.4]))


def test_a_loss_that_never_had_a_gradient_is_weighted_by_its_share():
    gradients = Gradients(tensor([[3.0, 4.0], [0.0, 0.0]]))
    weights = GradientShares(2, shares=[3.0, 1.0]).weigh(tensor([1.0, 1.0]), gradients)
    torch.testing.assert_close(weights, tensor([0.75 / 5, 0.25]))


def test_shares_of_absent_losses_go_to_the_others():
    theta = torch.tensor([3.0, 4.0], requires_grad=True)
    balancer = GradientShares(["a", "b", "c"], shares={"a": 0.6, "b": 0.2, "c": 0.2}, wrt="shared")
    record = balancer.backward({"a": theta.sum(), "b": 5 * theta.sum()})
    torch.testing.assert_close(
        record.weights, torch.tensor([0.75, 0.25 / 5, 0.0]) / math.sqrt(2), rtol=1e-5, atol=0
    )


def test_an_item_size_that_does_not_divide_what_is_watched_is_refused():
    balancer = GradientShares(2, item_size=4)
    with pytest.raises(ValueError, match="`item_size` is 4"):
        balancer.weigh(tensor([1.0, 1.0]), Gradients(torch.ones(2, 6)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": [1.0, -1.0]}, "no negative number"),
        ({"shares": [0.0, 0.0]}, "not only zeros"),
        ({"ema_decay": 1.5}, "`ema_decay` is 1.5"),
        ({"total_norm": 0.0}, "`total_norm` is 0"),
        ({"eps": 0.0}, "`eps` is 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GradientShares(2, **options)
