from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.modo import MoDo
from tests.models import MultiHead, batch, jacobian


def weights_by_hand(batches, count, priorities=1.0):
    """One MoDo step from equal weights, too short to leave the simplex's inside."""
    equal = torch.full((count,), 1 / count, dtype=torch.float64)
    first, second = (priorities * rows for rows in batches)
    moved = equal - 1e-3 * (first @ second.T @ equal + 0.1 * equal)
    return moved - (moved.sum() - 1) / count


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_batches_that_are_not_shown_are_stood_in_for_by_that_of_the_step(shown):
    model = MultiHead(3)
    trunk = list(model.trunk.parameters())
    inputs = [batch() for _ in range(3)]
    own = jacobian(model(inputs[2]), trunk)
    rows = [jacobian(model(x), trunk) for x in inputs[:shown]] + [own, own]
    balancer = MoDo(3, gamma=1e-3)
    for x in inputs[:shown]:
        balancer.observe(model(x))
    record = balancer.backward(model(inputs[2]))
    torch.testing.assert_close(record.weights, weights_by_hand(rows[:2], 3))


def test_observing_touches_no_grad_and_scales_by_priorities():
    model, x = MultiHead(3), batch()
    balancer = MoDo(3, gamma=1e-3, priorities=[2.0, 1.0, 0.5])
    balancer.observe(model(x))
    assert all(parameter.grad is None for parameter in model.parameters())
    rows = jacobian(model(x), list(model.trunk.parameters()))
    record = balancer.backward(model(x))
    priorities = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    expected = weights_by_hand([rows, rows], 3, priorities[:, None]) * priorities
    torch.testing.assert_close(record.weights, expected)


def test_what_was_observed_is_forgotten_after_the_step_and_when_a_third_batch_comes():
    batches = [Gradients(torch.randn(2, 4, dtype=torch.float64)) for _ in range(4)]
    own = batches[3].matrix()
    balancer = MoDo(2, gamma=1e-3)
    for gradients in batches[:3]:
        balancer.observe(gradients)
    weights = balancer.weigh(torch.ones(2).double(), batches[3])
    torch.testing.assert_close(weights, weights_by_hand([batches[2].matrix(), own], 2))
    assert balancer.observed.numel() == 0
    assert not balancer.observed_batches.any()


def test_losses_absent_from_either_batch_do_not_mix_with_the_others():
    model, x, y = MultiHead(3), batch(), batch()
    names = ["a", "b", "c"]
    balancer = MoDo(names, gamma=1e-3)
    first = dict(zip(names, model(x), strict=True))
    second = dict(zip(names, model(y), strict=True))
    trunk = list(model.trunk.parameters())
    balancer.observe({**first, "b": None}, wrt=trunk)
    balancer.backward({**second, "c": None}, wrt=trunk)
    rows_x, rows_y = (
        jacobian(list(losses.values()), trunk)
        for losses in (first, dict(zip(names, model(y), strict=True)))
    )
    mixed = torch.stack([rows_x[0], rows_y[1]])
    start = torch.full((2,), 1 / 3, dtype=torch.float64)
    moved = start - 1e-3 * (mixed @ rows_y[:2].T @ start + 0.1 * start)
    torch.testing.assert_close(
        balancer.last.weights[:2], moved - (moved.sum() - 1) / 2, rtol=1e-6, atol=1e-8
    )
    assert balancer.last.weights[2] == 0
    assert not balancer.observed_batches.any()


def test_observations_are_part_of_the_saved_state():
    balancer, resumed = MoDo(2), MoDo(2)
    for _ in range(2):
        balancer.observe(Gradients(torch.randn(2, 3)))
    resumed.load_state_dict(balancer.state_dict())
    own = Gradients(torch.randn(2, 3))
    ours, theirs = (b.weigh(torch.ones(2), own) for b in (balancer, resumed))
    assert torch.equal(ours, theirs)


def test_a_frozen_balancer_observes_nothing():
    balancer = MoDo(2)
    with balancer.frozen():
        balancer.observe(Gradients(torch.randn(2, 3)))
    assert balancer.observed.numel() == 0


def test_a_batch_with_nan_leaves_weights_as_they_were_and_the_next_step_works():
    balancer = MoDo(2)
    rows = torch.randn(2, 3)
    before = balancer.weigh(torch.ones(2), Gradients(rows))
    balancer.observe(Gradients(torch.full((2, 3), torch.nan)))
    assert torch.equal(balancer.weigh(torch.ones(2), Gradients(rows)), before)
    assert balancer.weigh(torch.ones(2), Gradients(rows)).isfinite().all()


def test_observing_elsewhere_than_the_step_watches_is_an_error():
    balancer = MoDo(2)
    balancer.observe(Gradients(torch.randn(2, 3)))
    with pytest.raises(ValueError, match="same `wrt`"):
        balancer.weigh(torch.ones(2), Gradients(torch.randn(2, 4)))
