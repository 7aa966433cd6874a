from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.fairgrad import FairGrad
from equipoise.aggregation.nashmtl import NashMTL
from tests.aggregation.following import follow_gradient, follow_live, follow_weights, independent
from tests.golden import load, names


@pytest.mark.parametrize("name", names("fairgrad_*"))
def test_weights_and_gradient_follow_the_references(name):
    golden = load(name)
    balancer = FairGrad(3, alpha=golden.hyperparameters["alpha"])
    follow_weights(golden, balancer)
    follow_gradient(golden, balancer)
    follow_live(golden, balancer)


@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.3, 0.5, 1.0, 2.0, 5.0]))
def test_weights_solve_the_equation(seed, losses, alpha):
    rows = torch.cat([independent(losses, 6, seed), torch.eye(losses).double()], dim=1)
    weights = FairGrad(losses, alpha=alpha).weigh(torch.ones(losses).double(), Gradients(rows))
    torch.testing.assert_close(
        rows @ rows.T @ weights * weights ** (1 / alpha), torch.ones(losses).double()
    )


def test_proportional_fairness_is_the_nash_bargain():
    values, gradients = torch.ones(4).double(), Gradients(independent(4, 6))
    expected = NashMTL(4, max_norm=0).weigh(values, gradients)
    torch.testing.assert_close(FairGrad(4, alpha=1.0).weigh(values, gradients), expected)


def test_pivrg_is_the_case_of_alpha_two_with_inverse_priorities():
    rows = independent(3, 6)
    scores = torch.tensor([3.0, -1.0, 12.0]).double()
    temperature = max(float(scores.max() - scores.min()) / 0.6931471805599453, 10.0)
    wanted = 3 * torch.softmax(scores / temperature, dim=0)
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    balancer = FairGrad(3, alpha=2.0, priorities=(1 / wanted).tolist())
    applied = balancer.backward([row @ theta for row in rows]).weights
    torch.testing.assert_close(rows @ rows.T @ applied, (wanted / applied).sqrt())


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_common_scale_changes_weights_by_its_power_only(scale):
    rows, values = independent(3, 6), torch.ones(3).double()
    one, other = (FairGrad(3, alpha=2.0).weigh(values, Gradients(m)) for m in (rows, rows * scale))
    torch.testing.assert_close(other * scale ** (4 / 3), one)


@pytest.mark.parametrize("rows", [[[1.0, 2], [0, 0]], [[1.0, 2], [-2, -4]], [[0.0, 0], [0, 0]]])
def test_zero_and_opposite_gradients_end_finite(rows):
    balancer = FairGrad(2)
    weights = balancer.weigh(torch.ones(2), Gradients(torch.tensor(rows)))
    assert weights.isfinite().all()
    assert not balancer.skipped.any()


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf")])
def test_an_alpha_that_is_not_finite_and_positive_is_refused(alpha):
    with pytest.raises(ValueError, match=f"`alpha` is {alpha}"):
        FairGrad(2, alpha=alpha)
