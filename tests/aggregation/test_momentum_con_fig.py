from __future__ import annotations

import pytest
import torch

from equipoise.aggregation.con_fig import ConFIG
from equipoise.aggregation.momentum_con_fig import MomentumConFIG
from equipoise.gradients.gradients import Gradients
from tests.aggregation.following import independent
from tests.golden import assert_matches, load, tensor

NAMES = ["mconfig_conflictfree", "mconfig_conflictfree_2perstep"]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_moments_follow_the_authors(name):
    golden = load(name)
    balancer = MomentumConFIG(golden.hyperparameters["num_vectors"])
    balancer.double()
    for i, step in enumerate(golden.steps):
        rows = tensor(step["gradients"])
        with balancer.among(tuple(step["indexes"])):
            combined = balancer.combine(torch.ones(len(rows)).double(), Gradients(rows))
        assert_matches(golden, combined, step["gradient"], f"step {i}")
        state = step["state"]
        assert_matches(golden, balancer.first_moments, state["m"], f"step {i} m")
        assert_matches(golden, balancer.second_moment, state["s"], f"step {i} s")
        assert balancer.seen.tolist() == state["t_grads"]
        assert balancer.steps.item() == state["t"]


@pytest.mark.parametrize("name", NAMES)
def test_losses_left_out_of_a_step_count_by_their_moments(name):
    golden = load(name)
    names = [f"loss{i}" for i in range(golden.hyperparameters["num_vectors"])]
    balancer = MomentumConFIG(names)
    for i, step in enumerate(golden.steps):
        rows = tensor(step["gradients"])
        theta = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
        losses = {names[t]: 1 + row @ theta for t, row in zip(step["indexes"], rows, strict=True)}
        balancer.backward(losses, wrt=theta)
        assert_matches(golden, theta.grad, step["gradient"], f"step {i}")


def test_constant_gradients_give_adams_step_of_their_config_direction():
    rows = independent(3, 5)
    balancer = MomentumConFIG(3, eps=0.0)
    for _ in range(4):
        update = balancer.combine(torch.ones(3).double(), Gradients(rows))
    direction = ConFIG(3).combine(torch.ones(3).double(), Gradients(rows))
    torch.testing.assert_close(update, direction.sign())


def test_a_frozen_step_moves_no_moment():
    balancer = MomentumConFIG(2)
    theta = torch.zeros(3, requires_grad=True)
    losses = [theta.sum(), (2 * theta - 1).square().sum()]
    balancer.backward(losses, retain_graph=True)
    before = {
        name: value.clone() for name, value in balancer.state_dict().items() if "ext" not in name
    }
    with balancer.frozen():
        balancer.backward(losses)
    after = balancer.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("options", [{"beta_1": 1.0}, {"beta_2": -0.1}, {"eps": -1.0}])
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        MomentumConFIG(2, **options)
