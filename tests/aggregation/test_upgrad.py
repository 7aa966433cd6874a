from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.dualproj import DualProj
from equipoise.aggregation.upgrad import UPGrad
from tests.aggregation.cancelling import nearly_cancelling
from tests.aggregation.following import (
    follow_gradient,
    follow_live,
    follow_weights,
    independent,
    live,
)
from tests.golden import load

CASES = {
    "upgrad_torchjd": {},
    "upgrad_libmtl": {},
    "upgrad_torchjd_pref": {"preference": [0.2, 0.5, 1.0]},
    "upgrad_torchjd_smalleps": {"norm_eps": 1e-12, "reg_eps": 1e-9},
}
EXACT = {"norm_eps": 0.0, "reg_eps": 0.0}


@pytest.mark.parametrize(("name", "options"), CASES.items())
def test_weights_and_gradient_follow_the_references(name, options):
    golden = load(name)
    balancer = UPGrad(3, **options)
    follow_weights(golden, balancer)
    follow_gradient(golden, balancer)
    follow_live(golden, balancer)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 8))
def test_without_regularisation_the_update_opposes_no_gradient(seed, losses, columns):
    rows = independent(losses, columns, seed)
    update = UPGrad(losses, **EXACT).combine(torch.ones(losses).double(), Gradients(rows))
    assert (rows @ update >= -1e-9 * rows.norm() ** 2).all()


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_it_is_the_sum_of_the_projections_of_each_gradient(seed, losses):
    rows = independent(losses, 6, seed)
    values, gradients = torch.ones(losses).double(), Gradients(rows)
    alone = [
        DualProj(losses, preference=one.tolist(), **EXACT).combine(values, gradients)
        for one in torch.eye(losses).double()
    ]
    update = UPGrad(losses, **EXACT).combine(values, gradients)
    torch.testing.assert_close(update, torch.stack(alone).mean(0), rtol=1e-6, atol=1e-9)


def test_scaling_a_loss_scales_its_part_of_the_update_linearly():
    rows, values = independent(2, 5, 3), torch.ones(2).double()
    updates = [
        UPGrad(2, **EXACT).combine(values, Gradients(rows * torch.tensor([[s], [1.0]])))
        for s in (1.0, 2.0, 3.0)
    ]
    torch.testing.assert_close(updates[1] - updates[0], updates[2] - updates[1])


def test_without_conflict_it_is_the_mean():
    rows = independent(3, 6, 2).abs()
    weights = UPGrad(3, **EXACT).weigh(torch.ones(3).double(), Gradients(rows))
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3).double())


def test_the_mean_is_that_of_the_losses_that_are_there():
    (a, b), _ = live(torch.ones(2).double(), independent(2, 6, 2).abs())
    balancer = UPGrad(["a", "absent", "b"], **EXACT)
    balancer.backward({"a": a, "b": b})
    assert balancer.weights == pytest.approx({"a": 0.5, "absent": 0.0, "b": 0.5})


def test_below_norm_eps_nothing_is_projected():
    rows = 1e-3 * torch.tensor([[1.0, 0.0], [-1.0, 1.0]]).double()
    values = torch.ones(2).double()
    assert UPGrad(2).weigh(values, Gradients(rows)).tolist() == [0.5, 0.5]
    projected = UPGrad(2, **EXACT).weigh(values, Gradients(rows))
    torch.testing.assert_close(projected, torch.tensor([1.0, 0.75]).double())


@pytest.mark.parametrize("options", [{}, EXACT])
@pytest.mark.parametrize("rows", [[[1.0, 2], [0, 0]], [[1.0, 2], [-2, -4]], [[0.0, 0], [0, 0]]])
def test_zero_and_opposite_gradients_end_finite(rows, options):
    balancer = UPGrad(2, **options)
    weights = balancer.weigh(torch.ones(2), Gradients(torch.tensor(rows)))
    assert weights.isfinite().all()
    assert not balancer.skipped.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rounding_makes_the_exact_projection_longer_than_what_is_projected(dtype):
    for rows in nearly_cancelling(60, dtype):
        balancer = UPGrad(len(rows), norm_eps=0.0, reg_eps=0.0)
        weights = balancer.weigh(torch.ones(len(rows), dtype=dtype), Gradients(rows))
        longest = rows.double().norm(dim=1).mean()
        rounding = torch.finfo(dtype).eps ** 0.5 * rows.double().norm(dim=1).mean()
        assert (weights.double() @ rows.double()).norm() <= longest + rounding
