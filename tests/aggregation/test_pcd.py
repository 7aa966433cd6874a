from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.pcd import PCD
from tests.aggregation.following import follow_gradient, follow_live, independent, seen
from tests.golden import assert_matches, load
from tests.models import MultiHead, batch, flat_grad, jacobian

OPTIONS = {
    "pcd_torchjd_tau0.02": {},
    "pcd_torchjd_tauvector": {"tau": [0.1, 0.6], "beta": 0.99, "eps": 1e-6},
}


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_weights_gradients_and_averages_follow_torchjd(name, options):
    golden = load(name)
    balancer = PCD(3, **options)
    for i, step in enumerate(golden.steps):
        weights = balancer.weigh(*seen(step))
        assert_matches(golden, weights, step["weights"], f"step {i} weights")
        average = step["state"]["sq_norm_ema"]
        assert_matches(golden, balancer.square_norms, average, f"step {i} average")
    follow_gradient(golden, PCD(3, **options))
    follow_live(golden, PCD(3, **options))


def test_every_other_loss_makes_its_progress_and_the_length_is_the_primarys():
    for seed in range(20):
        rows = independent(4, 6, seed)
        balancer = PCD(["a", "b", "c", "main"], primary="main", tau={"b": 0.3})
        update = balancer.combine(torch.ones(4).double(), Gradients(rows))
        torch.testing.assert_close(update.norm(), rows[3].norm())
        normalised = rows / rows.norm(dim=1, keepdim=True)
        progress = normalised @ update / update.norm()
        assert (progress[:3] > 0).all()


def test_the_primary_alone_is_followed_where_nothing_conflicts():
    rows = torch.tensor([[2.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    weights = PCD(3, tau=0.0).weigh(torch.ones(3), Gradients(rows))
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0, 0.0]))


def test_contradicting_losses_leave_the_primary_in_float32_too():
    row = torch.randn(30)
    rows = torch.stack([torch.randn(30), row, -0.7 * row])
    weights = PCD(3, tau=0.5).weigh(torch.ones(3), Gradients(rows))
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0, 0.0]))


def test_a_step_without_the_primary_follows_the_first_that_is_there():
    rows = independent(3, 4)
    balancer = PCD(3).double()
    with balancer.among((1, 2)):
        weights = balancer.weigh(torch.ones(2).double(), Gradients(rows[1:]))
    assert weights.isfinite().all()
    torch.testing.assert_close((weights @ rows[1:]).norm(), rows[1].norm())


@pytest.mark.parametrize("options", [{"primary": "x"}, {"tau": 2.0}, {"beta": 1.0}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        PCD(2, **options)


def test_a_losses_own_parameters_get_its_plain_gradient():
    model, x = MultiHead(4), batch()
    heads = list(model.heads.parameters())
    plain = jacobian(model(x), heads).sum(0)
    PCD(4).backward(model(x))
    torch.testing.assert_close(flat_grad(heads), plain)
