from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.pcgrad import PCGrad
from tests.aggregation.following import follow_gradient, follow_live, independent, seen
from tests.golden import assert_matches, load

DRAWN = {
    "pcgrad_torchjd": {},
    "pcgrad_libmtl": {"project_on_own": True, "eps": 1e-8},
    "pcgrad_nashmtl_sum": {"project_on_own": True},
}


@pytest.mark.parametrize(("name", "options"), DRAWN.items())
def test_weights_follow_the_references_in_their_orders(name, options):
    golden = load(name)
    balancer = PCGrad(3, **options)
    for i, step in enumerate(golden.steps):
        _, gradients = seen(step)
        orders = torch.tensor(step["random"]["permutations"])
        weights = balancer.project(gradients.gram(), orders)
        if "weights" in step:
            assert_matches(golden, weights, step["weights"], f"step {i} weights")
        assert_matches(golden, gradients.combine(weights), step["gradient"], f"step {i}")


def test_ascending_order_follows_conflictfree():
    golden = load("pcgrad_conflictfree_fixedorder")
    follow_gradient(golden, PCGrad(3, order="ascending"))
    follow_live(golden, PCGrad(3, order="ascending"))


def slowly(rows, orders, *, own=False):
    """The paper's loop, on vectors."""
    projected = rows.clone()
    for i, order in enumerate(orders.tolist()):
        for j in order:
            product = projected[i] @ rows[j]
            if product < 0 and (own or i != j):
                projected[i] = projected[i] - product / (rows[j] @ rows[j]) * rows[j]
    return projected.sum(0)


@pytest.mark.parametrize("own", [False, True])
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_equal_to_the_loop_over_vectors(own, seed, losses, columns):
    rows = independent(losses, columns, seed)
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(losses, generator=generator) for _ in range(losses)])
    weights = PCGrad(losses, project_on_own=own).project(rows @ rows.T, orders)
    torch.testing.assert_close(weights @ rows, slowly(rows, orders, own=own), rtol=1e-8, atol=1e-9)


def test_every_gradient_draws_an_order_of_its_own_and_all_orders_come_up():
    balancer = PCGrad(3, generator=torch.Generator().manual_seed(1))
    drawn = [balancer._orders(torch.ones(3)) for _ in range(60)]
    assert all(torch.equal(orders.sort(dim=1).values[1], torch.arange(3)) for orders in drawn)
    assert {tuple(orders[0].tolist()) for orders in drawn} == {
        (0, 1, 2),
        (0, 2, 1),
        (1, 0, 2),
        (1, 2, 0),
        (2, 0, 1),
        (2, 1, 0),
    }
    assert any(not torch.equal(orders[0], orders[1]) for orders in drawn)


def test_the_same_generator_gives_the_same_weights():
    gradients = Gradients(independent(4, 3, 5))
    values = torch.ones(4).double()
    one, other = (PCGrad(4, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    for _ in range(5):
        assert torch.equal(one.weigh(values, gradients), other.weigh(values, gradients))


def test_without_conflict_nothing_is_projected():
    rows = independent(3, 6, 2).abs()
    assert PCGrad(3).weigh(torch.ones(3), Gradients(rows)).tolist() == [1.0, 1.0, 1.0]
    mean = PCGrad(3, reduction="mean").weigh(torch.ones(3).double(), Gradients(rows))
    torch.testing.assert_close(mean, torch.full((3,), 1 / 3).double())


def test_two_opposite_gradients_leave_nothing():
    row = independent(1, 5)
    update = PCGrad(2).combine(torch.ones(2).double(), Gradients(torch.cat([row, -3 * row])))
    torch.testing.assert_close(update, torch.zeros(5).double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "descending"}, "`order` is 'descending'; write"),
        ({"reduction": "max"}, "`reduction` is 'max'; write"),
        ({"eps": -1.0}, "`eps` is -1.0"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        PCGrad(2, **options)
