from __future__ import annotations

import pytest
import torch

from equipoise.weighting.chebyshev import Chebyshev
from tests.golden import tensor


def test_preferences_are_equal_by_default_and_kept_in_full_precision():
    balancer = Chebyshev(3)
    balancer.weigh(tensor([1.0, 1.0, 1.0]))
    assert torch.equal(balancer.preference, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_a_new_preference_counts_from_the_next_step_on():
    balancer = Chebyshev(["a", "b"], preference={"a": 0.9, "b": 0.1})
    assert balancer.weigh(tensor([1.0, 1.0])).tolist() == [0.9, 0.0]
    balancer.prefer({"a": 0.2, "b": 0.8})
    assert balancer.weigh(tensor([1.0, 1.0])).tolist() == [0.0, 0.8]


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        ([1.0, -0.5], "no negative number"),
        ([0.0, 0.0], "not only zeros"),
        ({"a": 1.0}, "`preference` lacks 'b'"),
    ],
)
def test_a_preference_that_means_nothing_is_refused(preference, message):
    with pytest.raises(ValueError, match=message):
        Chebyshev(["a", "b"], preference=preference)
    with pytest.raises(ValueError, match=message):
        Chebyshev(["a", "b"]).prefer(preference)
