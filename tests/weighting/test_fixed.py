from __future__ import annotations

import pytest

import equipoise as eq
from tests.golden import tensor


def test_weights_are_given_by_name_or_in_order() -> None:
    by_name = eq.Fixed(["a", "b"], {"b": 3.0, "a": 0.1})
    in_order = eq.Fixed(["a", "b"], [0.1, 3.0])
    values = tensor([1.0, 2.0])
    assert by_name.weigh(values).tolist() == in_order.weigh(values).tolist() == [0.1, 3.0]


@pytest.mark.parametrize(
    ("weights", "says"), [({"a": 1.0}, "lacks 'b'"), ([1.0, float("inf")], "'b' is inf")]
)
def test_weights_that_are_missing_or_not_finite_are_refused(weights, says) -> None:
    with pytest.raises(ValueError, match=says):
        eq.Fixed(["a", "b"], weights)


def test_mean_weights_of_another_balancer_are_taken_over_exactly() -> None:
    balancer = eq.Uncertainty(["a", "b"], lr=0.3)
    for _ in range(3):
        balancer.weigh(tensor([4.0, 0.1]))
    fixed = eq.Fixed.from_balancer(balancer)
    found = fixed.weigh(tensor([1.0, 1.0])).tolist()
    assert dict(zip("ab", found, strict=True)) == balancer.mean_weights
