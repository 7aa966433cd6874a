from __future__ import annotations

import equipoise as eq
from tests.golden import tensor


def test_every_loss_is_divided_by_the_size_of_its_first_value() -> None:
    balancer = eq.FirstValue(3)
    assert balancer.weigh(tensor([4.0, -0.5, 2.0])).tolist() == [0.25, 2.0, 0.5]
    assert balancer.weigh(tensor([1.0, 1.0, 1.0])).tolist() == [0.25, 2.0, 0.5]


def test_a_priority_of_zero_leaves_the_other_losses_as_they_are() -> None:
    balancer = eq.FirstValue(["a", "b"], priorities={"a": 0.0, "b": 3.0})
    assert balancer.weigh(tensor([0.0, 3.0 * 2.0])).tolist() == [1.0, 0.5]
    assert balancer.weigh(tensor([0.0, 3.0 * 1.0])).tolist() == [1.0, 0.5]


def test_a_loss_that_begins_at_zero_waits_for_a_value() -> None:
    balancer = eq.FirstValue(2)
    assert balancer.weigh(tensor([0.0, 2.0])).tolist() == [1.0, 0.5]
    assert balancer.weigh(tensor([4.0, 1.0])).tolist() == [0.25, 0.5]
