from __future__ import annotations

import torch

from equipoise.parts.inverse import inverse_weights
from tests.golden import tensor


def test_weighted_sizes_are_equal_to_their_mean():
    sizes = tensor([0.1, 2.0, 30.0])
    weighted = inverse_weights(sizes, eps=0.0) * sizes
    torch.testing.assert_close(weighted, sizes.mean().expand(3))


def test_a_size_of_zero_gets_one_over_eps():
    weights = inverse_weights(tensor([0.0, 2.0]), eps=1e-5)
    torch.testing.assert_close(weights[0], tensor(1e5))


def test_weights_are_ones_where_all_sizes_are_zero():
    assert torch.equal(inverse_weights(tensor([0.0, 0.0]), eps=1e-5), tensor([1.0, 1.0]))
