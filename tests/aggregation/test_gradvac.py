from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.gradvac import GradVac
from tests.aggregation.cancelling import nearly_cancelling
from tests.aggregation.following import independent, seen
from tests.golden import assert_matches, load, tensor


@pytest.mark.parametrize("name", ["gradvac_torchjd_beta0.5", "gradvac_libmtl_beta0.5"])
def test_weights_gradients_and_targets_follow_the_references_in_their_orders(name):
    golden = load(name)
    balancer = GradVac(3, beta=0.5)
    balancer.double()
    for i, step in enumerate(golden.steps):
        _, gradients = seen(step)
        orders = torch.tensor(step["random"]["orders"])
        weights = balancer.vaccinate(gradients.gram()[None], orders)[0]
        assert_matches(golden, gradients.combine(weights), step["gradient"], f"step {i}")
        targets = tensor(step["state"]["targets"]).view(3, 3)
        assert_matches(golden, balancer.targets[..., 0], targets, f"step {i} targets")


def test_each_tensor_on_its_own_follows_libmtl():
    golden = load("gradvac_libmtl_allmatrix")
    sizes = golden.hyperparameters["group_sizes"]
    balancer = GradVac(3, beta=0.5, granularity="tensor")
    balancer.double()
    for i, step in enumerate(golden.steps):
        parts = tensor(step["jacobian"]).split(sizes, dim=1)
        grams = torch.stack([part @ part.T for part in parts])
        weights = balancer.vaccinate(grams, torch.tensor(step["random"]["orders"]))
        combined = torch.cat([w @ part for w, part in zip(weights, parts, strict=True)])
        assert_matches(golden, combined, step["gradient"], f"step {i}")
        targets = tensor(step["state"]["targets"])
        assert_matches(golden, balancer.targets.permute(2, 0, 1), targets, f"step {i} targets")


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_two_steps_equal_the_loop_over_vectors(seed, losses):
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(losses, generator=generator) for _ in range(losses)])
    balancer = GradVac(losses, beta=0.3)
    balancer.double()
    goals = torch.zeros(losses, losses).double()
    for step in range(2):
        rows = independent(losses, 8, seed + step)
        turned = rows.clone()
        for i, order in enumerate(orders.tolist()):
            for j in [j for j in order if j != i]:
                goal = goals[i, j]
                length, other = turned[i].norm(), rows[j].norm()
                cosine = turned[i] @ rows[j] / (length * other + 1e-8)
                sine, side = (1 - cosine**2).clamp(min=0).sqrt(), (1 - goal**2).sqrt()
                if cosine < goal:
                    pull = length * (goal * sine - cosine * side) / (other * side + 1e-8)
                    turned[i] = turned[i] + pull * rows[j]
                goals[i, j] = 0.7 * goal + 0.3 * cosine
        weights = balancer.vaccinate((rows @ rows.T)[None], orders)[0]
        torch.testing.assert_close(weights @ rows, turned.sum(0), rtol=1e-6, atol=1e-7)


def test_first_step_lifts_conflicting_pairs_to_the_right_angle():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    balancer = GradVac(2)
    weights = balancer.weigh(torch.ones(2).double(), Gradients(rows))
    projected = rows + torch.tensor([[-0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(weights @ rows, projected.sum(0), atol=1e-7, rtol=0)


def test_per_tensor_is_no_weighting_and_says_so():
    balancer = GradVac(2, granularity="tensor")
    gradients = Gradients(torch.randn(2, 6), sizes=[4, 2])
    assert balancer.combine(torch.ones(2), gradients).shape == (6,)
    assert balancer.targets.shape == (2, 2, 2)
    with pytest.raises(TypeError, match="combine"):
        balancer.weigh(torch.ones(2), gradients)
    with pytest.raises(ValueError, match="every"):
        GradVac(2, granularity="tensor", every=2)
    assert GradVac(2, every=2).weighting


def test_a_gradient_of_zero_keeps_weight_one():
    balancer = GradVac(2, beta=0.5)
    for first in ([1.0, 1.0], [0.0, 0.0]):
        rows = torch.tensor([first, [1.0, 1.0]], dtype=torch.float64)
        weights = balancer.weigh(torch.ones(2).double(), Gradients(rows))
    torch.testing.assert_close(weights, torch.ones(2).double())


@pytest.mark.parametrize("options", [{"beta": 1.5}, {"eps": -1.0}, {"granularity": "row"}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        GradVac(2, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_are_cosines_and_updates_bounded_where_gradients_nearly_cancel(dtype):
    for rows in nearly_cancelling(60, dtype):
        balancer, values = GradVac(len(rows), beta=0.5), torch.ones(len(rows), dtype=dtype)
        for _ in range(3):
            weights = balancer.weigh(values, Gradients(rows))
            assert balancer.targets.abs().max() <= 1
            assert weights.abs().max() <= 100


def test_a_target_that_is_no_cosine_is_healed_by_the_next_step():
    balancer = GradVac(2, beta=0.5)
    balancer.targets.fill_(492.0)
    weights = balancer.weigh(torch.ones(2), Gradients(torch.eye(2)))
    assert balancer.targets.abs().max() <= 1
    assert weights.isfinite().all()


def test_two_gradients_that_are_always_the_same_are_never_turned_far():
    balancer, rows = GradVac(2, beta=0.5), torch.randn(2, 30)
    rows[1] = rows[0]
    for _ in range(100):
        balancer.weigh(torch.ones(2), Gradients(rows))
    rows[1] = torch.randn(30)
    assert balancer.weigh(torch.ones(2), Gradients(rows)).abs().max() < 1e4
