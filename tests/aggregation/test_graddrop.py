from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.graddrop import GradDrop
from tests.aggregation.following import live
from tests.golden import assert_matches, load, tensor


@pytest.mark.parametrize(
    ("name", "options"),
    [("graddrop_torchjd", {}), ("graddrop_famo", {"eps": 1e-8, "max_norm": 1.0})],
)
def test_gradients_follow_the_references_for_their_draws(name, options):
    golden = load(name)
    balancer = GradDrop(3, **options)
    for i, step in enumerate(golden.steps):
        combined = balancer.drop(Gradients(tensor(step["jacobian"])), tensor(step["random"]["U"]))
        assert_matches(golden, combined, step["gradient"], f"step {i}")


def test_gradients_at_a_representation_follow_libmtl_for_its_draws():
    golden = load("graddrop_libmtl")
    balancer = GradDrop(3, eps=1e-7)
    for i, step in enumerate(golden.steps):
        activations = tensor(step["representation"])
        rows = tensor(step["gradients"]).flatten(1)
        combined = balancer.drop(Gradients(rows), tensor(step["random"]["U"]), activations)
        assert_matches(golden, combined.view_as(activations), step["gradient"], f"step {i}")


def test_a_feature_of_a_watched_representation_is_dropped_for_the_whole_batch():
    activations = torch.randn(7, 5, dtype=torch.float64)
    leaf = activations.clone().requires_grad_()
    watched = leaf * 1
    slopes = torch.randn(2, 7, 5, dtype=torch.float64)
    losses = [(slope * watched).sum() for slope in slopes]
    generator = torch.Generator().manual_seed(3)
    uniform = torch.rand(5, generator=torch.Generator().manual_seed(3)).double()
    balancer = GradDrop(2, generator=generator)
    balancer.backward(losses, wrt=watched)
    expected = balancer.drop(Gradients(slopes.flatten(1)), uniform, activations)
    torch.testing.assert_close(leaf.grad.flatten(), expected)
    kept = (leaf.grad[None] == slopes) | (leaf.grad[None] == slopes.sum(0))
    assert all(kept[t, :, f].all() or not kept[t, :, f].any() for t in range(2) for f in range(5))


def test_the_last_representation_does_not_outlive_its_step():
    balancer = GradDrop(2)
    leaf = torch.randn(3, 4, requires_grad=True)
    watched = leaf * 1
    balancer.backward([watched.sum(), watched.square().sum()], wrt=watched)
    assert balancer.combine(torch.ones(2), Gradients(torch.ones(2, 7))).shape == (7,)


def test_only_the_sign_that_won_passes_and_the_leak_is_each_losses_own():
    rows = torch.tensor([[1.0, -2.0, 3.0], [-1.0, 4.0, 1.0]])
    balancer = GradDrop(["a", "b"], leak={"a": 0.0, "b": 0.5})
    low = balancer.drop(Gradients(rows), torch.zeros(3))
    torch.testing.assert_close(low, torch.tensor([0.5, 4.0, 4.0]))
    full = GradDrop(["a", "b"], leak=1.0).drop(Gradients(rows), torch.rand(3))
    torch.testing.assert_close(full, rows.sum(0))


def test_positive_gradients_pass_as_often_as_their_purity_says():
    rows = torch.tensor([[3.0], [-1.0]]).expand(2, 20_000)
    combined = GradDrop(2).combine(torch.ones(2), Gradients(rows))
    assert set(combined.tolist()) == {3.0, -1.0}
    assert (combined == 3).double().mean().item() == pytest.approx(0.75, abs=0.015)


def test_backward_writes_the_combined_gradient():
    losses, theta = live(torch.ones(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    GradDrop(2).backward(losses)
    torch.testing.assert_close(theta.grad, torch.tensor([3.0, 3.0]))


@pytest.mark.parametrize("options", [{"leak": 1.5}, {"eps": -1.0}, {"max_norm": 0.0}])
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        GradDrop(2, **options)
