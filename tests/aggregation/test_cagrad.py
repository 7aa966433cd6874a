from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.cagrad import CAGrad
from tests.aggregation.cancelling import nearly_cancelling
from tests.aggregation.following import follow_gradient, follow_live, follow_weights, independent
from tests.golden import load

RESCALED = {
    "cagrad_libmtl_c0.5_rescale1": {"c": 0.5, "rescale": 1},
    "cagrad_libmtl_rescale0": {"c": 0.5, "rescale": 0},
    "cagrad_nashmtl_c0.4": {"c": 0.4, "rescale": 1, "reduction": "sum"},
}


@pytest.mark.parametrize("name", ["cagrad_torchjd_c0.4", "cagrad_torchjd_T2_c0.4"])
def test_weights_and_gradient_follow_torchjd(name):
    golden = load(name)
    balancer = CAGrad(len(golden.steps[0]["jacobian"]), c=0.4)
    follow_weights(golden, balancer)
    follow_gradient(golden, balancer)
    follow_live(golden, balancer)


@pytest.mark.parametrize(("name", "options"), RESCALED.items())
def test_rescaled_gradient_follows_libmtl_and_nash_mtl(name, options):
    follow_gradient(load(name), CAGrad(3, **options))


@given(st.integers(0, 10_000), st.integers(2, 5), st.floats(0.05, 0.95))
def test_no_other_update_in_the_ball_helps_the_worst_off_loss_more(seed, losses, c):
    rows = independent(losses, 6, seed)
    update = CAGrad(losses, c=c).combine(torch.ones(losses).double(), Gradients(rows))
    mean = rows.mean(0)
    radius = c * mean.norm()
    assert (update - mean).norm() <= radius * (1 + 1e-9)
    anywhere = torch.randn(200, 6, generator=torch.Generator().manual_seed(seed)).double()
    nearby = update - mean + 0.01 * radius * anywhere
    directions = torch.nn.functional.normalize(torch.cat([anywhere, nearby]))
    others = mean + radius * directions
    slack = 1e-9 * rows.square().sum(1).max()
    assert ((others @ rows.T).amin(1) <= (rows @ update).min() + slack).all()


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1e4])
def test_weights_do_not_depend_on_a_common_scale(scale):
    rows, values = independent(3, 6, 4), torch.ones(3).double()
    expected = CAGrad(3).weigh(values, Gradients(rows))
    torch.testing.assert_close(CAGrad(3).weigh(values, Gradients(rows * scale)), expected)


def test_zero_radius_is_the_mean_gradient():
    rows = independent(4, 6)
    update = CAGrad(4, c=0.0).combine(torch.ones(4).double(), Gradients(rows))
    torch.testing.assert_close(update, rows.mean(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [0.9, 1.5])
def test_where_gradients_cancel_the_update_lies_in_the_ball_and_opposes_none(c, dtype):
    rows = torch.tensor([[1.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=dtype)
    update = CAGrad(4, c=c).combine(torch.ones(4, dtype=dtype), Gradients(rows))
    assert ((rows @ update) >= -1e-6).all()
    assert (update - rows.mean(0)).norm() <= c * rows.mean(0).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_whose_mean_is_zero_end_with_an_update_of_zero(dtype):
    rows = independent(3, 6).to(dtype)
    rows = torch.cat([rows, -rows.sum(0, keepdim=True)])
    balancer = CAGrad(4)
    update = balancer.combine(torch.ones(4, dtype=dtype), Gradients(rows))
    assert not balancer.skipped.any()
    assert update.norm() <= 1e-3 * rows.norm()


def test_a_zero_gradient_leaves_the_mean_gradient_where_nothing_conflicts():
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double()
    weights = CAGrad(2).weigh(torch.ones(2).double(), Gradients(rows))
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5]).double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c": -0.1}, "`c` is -0.1"),
        ({"rescale": 3}, "`rescale` is 3; write"),
        ({"reduction": "max"}, "`reduction` is 'max'; write"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        CAGrad(2, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [0.1, 0.5, 1.5])
def test_no_rounding_takes_the_update_out_of_the_ball(c, dtype):
    for rows in nearly_cancelling(60, dtype):
        weights = CAGrad(len(rows), c=c).weigh(torch.ones(len(rows), dtype=dtype), Gradients(rows))
        mean = rows.double().mean(0)
        distance = (weights.double() @ rows.double() - mean).norm()
        rounding = torch.finfo(dtype).eps * rows.double().norm(dim=1).mean()
        assert distance <= c * mean.norm() + rounding
