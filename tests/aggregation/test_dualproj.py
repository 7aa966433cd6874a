from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.dualproj import DualProj
from tests.aggregation.cancelling import nearly_cancelling
from tests.aggregation.following import follow_gradient, follow_live, follow_weights, independent
from tests.golden import load

CASES = {
    "dualproj_torchjd": {},
    "dualproj_torchjd_pref": {"preference": [0.2, 0.5, 1.0]},
}
EXACT = {"norm_eps": 0.0, "reg_eps": 0.0}


@pytest.mark.parametrize(("name", "options"), CASES.items())
def test_weights_and_gradient_follow_torchjd(name, options):
    golden = load(name)
    balancer = DualProj(3, **options)
    follow_weights(golden, balancer)
    follow_gradient(golden, balancer)
    follow_live(golden, balancer)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 8))
def test_the_update_is_the_nearest_to_the_mean_that_opposes_no_gradient(seed, losses, columns):
    rows = independent(losses, columns, seed)
    update = DualProj(losses, **EXACT).combine(torch.ones(losses).double(), Gradients(rows))
    correction = update - rows.mean(0)
    slack = 1e-9 * rows.norm() ** 2
    assert (rows @ update >= -slack).all()
    # The projection onto a cone is orthogonal to what was added to get there.
    assert abs(correction @ update) <= slack


def test_one_conflict_is_projected_away():
    rows = torch.tensor([[1.0, 0.0], [-3.0, 1.0]]).double()
    update = DualProj(2, **EXACT).combine(torch.ones(2).double(), Gradients(rows))
    torch.testing.assert_close(update, torch.tensor([0.0, 0.5]).double())


@pytest.mark.parametrize("options", [{}, EXACT])
@pytest.mark.parametrize("rows", [[[1.0, 2], [0, 0]], [[1.0, 2], [-2, -4]], [[0.0, 0], [0, 0]]])
def test_zero_and_opposite_gradients_end_finite(rows, options):
    balancer = DualProj(2, **options)
    weights = balancer.weigh(torch.ones(2), Gradients(torch.tensor(rows)))
    assert weights.isfinite().all()
    assert not balancer.skipped.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rounding_makes_the_exact_projection_longer_than_what_is_projected(dtype):
    for rows in nearly_cancelling(60, dtype):
        balancer = DualProj(len(rows), norm_eps=0.0, reg_eps=0.0)
        weights = balancer.weigh(torch.ones(len(rows), dtype=dtype), Gradients(rows))
        longest = rows.double().mean(0).norm()
        rounding = torch.finfo(dtype).eps ** 0.5 * rows.double().norm(dim=1).mean()
        assert (weights.double() @ rows.double()).norm() <= longest + rounding
