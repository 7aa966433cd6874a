from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.dbmtl import DBMTL
from tests.aggregation.following import follow_live, independent, seen
from tests.golden import assert_matches, load


def test_gradients_and_averages_follow_libmtl():
    golden = load("dbmtl_libmtl_beta0.9")
    balancer = DBMTL(3)
    for i, step in enumerate(golden.steps):
        assert_matches(golden, balancer.combine(*seen(step)), step["gradient"], f"step {i}")
        norms = balancer.averaged.norm(dim=1)
        assert_matches(golden, norms, step["state"]["buffer_norms"], f"step {i} norms")
    follow_live(golden, DBMTL(3))


def test_the_scale_of_a_loss_does_not_matter():
    values, rows = torch.tensor([0.5, 2.0, 1.0]).double(), independent(3, 4)
    scales = torch.tensor([1.0, 1e3, 1e-3]).double()
    plain, scaled = DBMTL(3), DBMTL(3)
    for _ in range(3):
        one = plain.combine(values, Gradients(rows))
        other = scaled.combine(values * scales, Gradients(rows * scales[:, None]))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=0)


def test_the_share_of_the_average_decays_with_the_step():
    values, rows = torch.ones(2).double(), independent(2, 3)
    balancer = DBMTL(2, beta=0.5, beta_sigma=1.0)
    expected = torch.zeros_like(rows)
    for step in range(1, 5):
        balancer.combine(values, Gradients(rows * step))
        expected = rows * step + 0.5 / step * (expected - rows * step)
    torch.testing.assert_close(balancer.averaged, expected, rtol=1e-7, atol=0)


def test_a_loss_of_zero_or_below_ends_finite_and_goes_downhill():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for value in (0.0, -2.0):
        combined = DBMTL(2).combine(torch.tensor([1.0, value]), Gradients(rows))
        assert combined.isfinite().all()
        assert (combined > 0).all()


@pytest.mark.parametrize("options", [{"beta": 1.0}, {"beta_sigma": -1.0}])
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        DBMTL(2, **options)


def test_a_loss_of_zero_with_a_huge_gradient_stays_in_range():
    rows = torch.tensor([[1e15, 0.0], [0.0, 1.0]])
    balancer = DBMTL(2)
    combined = balancer.combine(torch.tensor([0.0, 1.0]), Gradients(rows))
    assert combined.isfinite().all()
    assert not balancer.skipped.any()
