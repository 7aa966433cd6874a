from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.nashmtl import NashMTL
from tests.aggregation.cancelling import nearly_cancelling
from tests.aggregation.following import (
    follow_gradient,
    follow_live,
    follow_weights,
    independent,
    live,
)
from tests.golden import load, names
from tests.models import MultiHead, batch, flat_grad


@pytest.mark.parametrize("name", names("nashmtl_*"))
def test_gradient_follows_the_references(name):
    golden = load(name)
    balancer = NashMTL(3, max_norm=golden.hyperparameters["max_norm"])
    follow_gradient(golden, balancer)
    follow_live(golden, balancer)


def test_weights_follow_torchjd():
    golden = load("nashmtl_torchjd")
    follow_weights(golden, NashMTL(3, max_norm=golden.hyperparameters["max_norm"]))


@pytest.mark.parametrize("name", ["nashmtl_official", "nashmtl_libmtl"])
def test_unclipped_weights_follow_the_authors_and_libmtl(name):
    follow_weights(load(name), NashMTL(3, max_norm=0))


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_unclipped_weights_solve_the_bargaining_equation(seed, losses):
    rows = torch.cat([independent(losses, 6, seed), torch.eye(losses).double()], dim=1)
    alpha = NashMTL(losses, max_norm=0).weigh(torch.ones(losses).double(), Gradients(rows))
    torch.testing.assert_close(alpha * (rows @ rows.T @ alpha), torch.ones(losses).double())


def test_the_combined_gradient_is_no_longer_than_max_norm():
    values, gradients = torch.ones(3).double(), Gradients(independent(3, 6))
    update = NashMTL(3, max_norm=0.25).combine(values, gradients)
    torch.testing.assert_close(update.norm(), torch.tensor(0.25).double())
    unclipped = NashMTL(3, max_norm=5.0).combine(values, gradients)
    torch.testing.assert_close(unclipped.norm(), torch.tensor(3.0).double().sqrt())


def test_the_update_does_not_depend_on_the_scale_of_a_loss():
    rows, values = independent(3, 6), torch.ones(3).double()
    scaled = rows * torch.tensor([1e-6, 1.0, 1e6]).double()[:, None]
    torch.testing.assert_close(
        NashMTL(3).combine(values, Gradients(scaled)), NashMTL(3).combine(values, Gradients(rows))
    )


def test_weights_have_no_memory():
    values, used = torch.ones(3).double(), NashMTL(3)
    used.weigh(values, Gradients(-independent(3, 6, 1)))
    gradients = Gradients(independent(3, 6, 2))
    assert torch.equal(used.weigh(values, gradients), NashMTL(3).weigh(values, gradients))


def test_between_updates_the_last_weights_are_reused_without_measuring():
    balancer = NashMTL(3, every=3, max_norm=0)
    found = []
    for step in range(6):
        losses, _ = live(torch.ones(3).double(), independent(3, 6, step))
        balancer.backward(losses)
        found.append(balancer.last)
    assert torch.equal(found[0].weights, found[2].weights)
    assert not torch.equal(found[2].weights, found[3].weights)
    assert [record.norms is None for record in found] == [False, True, True] * 2


@pytest.mark.parametrize("rows", [[[1.0, 2], [0, 0]], [[1.0, 2], [-2, -4]], [[0.0, 0], [0, 0]]])
def test_zero_and_opposite_gradients_end_finite(rows):
    balancer = NashMTL(2)
    weights = balancer.weigh(torch.ones(2), Gradients(torch.tensor(rows)))
    assert weights.isfinite().all()
    assert not balancer.skipped.any()


def test_a_negative_max_norm_is_refused():
    with pytest.raises(ValueError, match=r"`max_norm` is -1\.0"):
        NashMTL(2, max_norm=-1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rounding_makes_the_combined_gradient_longer_than_max_norm(dtype):
    for rows in nearly_cancelling(60, dtype):
        weights = NashMTL(len(rows)).weigh(torch.ones(len(rows), dtype=dtype), Gradients(rows))
        assert (weights.double() @ rows.double()).norm() <= 1 + 1e-6


def stepped(balancer, rows):
    losses, theta = live(torch.ones(len(rows)).double(), rows)
    balancer.backward(losses)
    return theta.grad


def test_between_updates_each_step_is_clipped_by_its_own_gradient():
    balancer, unclipped = NashMTL(3, every=3), NashMTL(3, every=3, max_norm=0)
    norms = []
    for step in range(6):
        rows = independent(3, 6, step) * 10.0 ** -(step % 3)
        bargained = stepped(unclipped, rows)
        norms.append(float(bargained.norm()))
        expected = bargained * min(1.0, 1.0 / norms[-1])
        torch.testing.assert_close(stepped(balancer, rows), expected)
    assert min(norms) < 1 < max(norms)


def test_between_updates_the_norm_is_that_of_what_is_watched():
    model, x = MultiHead(3), batch()
    balancer = NashMTL(3, every=2, max_norm=0.1)
    for factor in (1.0, 50.0):
        model.zero_grad()
        balancer.backward([factor * loss for loss in model(x)])
        shared = flat_grad(list(model.trunk.parameters()))
        assert shared.norm() <= 0.1 * (1 + 1e-5)


def test_the_balanced_loss_can_be_looked_at_without_gradients():
    balancer = NashMTL(2, every=2)
    with torch.no_grad():
        assert float(balancer([torch.tensor(1.0), torch.tensor(2.0)])) == 3.0
