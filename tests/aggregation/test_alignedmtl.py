from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.alignedmtl import AlignedMTL
from tests.aggregation.following import follow_gradient, follow_live, follow_weights, independent
from tests.golden import load
from tests.models import MultiHead, batch, flat_grad

CASES = {
    "alignedmtl_libmtl": {},
    "alignedmtl_torchjd_min": {"preference": 1 / 3},
    "alignedmtl_torchjd_median": {"preference": 1 / 3, "scale_mode": "median"},
    "alignedmtl_torchjd_rmse": {"preference": 1 / 3, "scale_mode": "rmse"},
    "alignedmtl_torchjd_pref": {"preference": [0.5, 1.5, 1.0]},
}


@pytest.mark.parametrize(("name", "options"), CASES.items())
def test_weights_and_gradient_follow_the_references(name, options):
    golden = load(name)
    balancer = AlignedMTL(3, **options)
    follow_weights(golden, balancer)
    follow_gradient(golden, balancer)
    follow_live(golden, balancer)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_equal_to_the_singular_value_decomposition_of_the_jacobian(seed, losses):
    rows = independent(losses, 8, seed)
    left, singular, right = torch.linalg.svd(rows, full_matrices=False)
    expected = (left @ right * singular[-1]).sum(0)
    update = AlignedMTL(losses).combine(torch.ones(losses).double(), Gradients(rows))
    torch.testing.assert_close(update, expected, rtol=1e-6, atol=1e-9)


def test_a_preference_by_name_is_that_in_order():
    values, gradients = torch.ones(2).double(), Gradients(independent(2, 5))
    by_name = AlignedMTL(["a", "b"], preference={"b": 2.0, "a": 0.5}).weigh(values, gradients)
    in_order = AlignedMTL(["a", "b"], preference=[0.5, 2.0]).weigh(values, gradients)
    assert torch.equal(by_name, in_order)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_weights_do_not_depend_on_a_common_scale(scale):
    rows, values = independent(3, 6), torch.ones(3).double()
    expected = AlignedMTL(3).weigh(values, Gradients(rows))
    torch.testing.assert_close(AlignedMTL(3).weigh(values, Gradients(rows * scale)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [[[1.0, 2], [0, 0]], [[1.0, 2], [-2, -4]], [[0.0, 0], [0, 0]]])
def test_zero_and_opposite_gradients_end_finite(rows, dtype):
    balancer = AlignedMTL(2)
    weights = balancer.weigh(torch.ones(2), Gradients(torch.tensor(rows, dtype=dtype)))
    assert weights.isfinite().all()
    assert not balancer.skipped.any()


def test_an_unknown_scale_is_refused_by_name():
    with pytest.raises(ValueError, match="`scale_mode` is 'max'; write 'min'"):
        AlignedMTL(2, scale_mode="max")


def test_parameters_of_one_loss_receive_its_plain_gradient_unless_asked_otherwise():
    model, x = MultiHead(3), batch()
    heads = list(model.heads.parameters())
    sum(model(x)).backward()
    expected = flat_grad(heads)
    model.zero_grad()
    AlignedMTL(3).backward(model(x))
    torch.testing.assert_close(flat_grad(heads), expected)
    model.zero_grad()
    AlignedMTL(3, heads="weighted").backward(model(x))
    assert not torch.allclose(flat_grad(heads), expected)


def slow_weights(gram, scale):
    """The eigendecomposition with the rank test of the docstring, written out."""
    values, vectors = np.linalg.eigh(gram)
    smallest = len(gram) * np.finfo(np.float64).eps * values.max()
    weights, kept = np.zeros(len(gram)), [value for value in values if value > smallest]
    common = {"min": kept[0], "median": kept[(len(kept) - 1) // 2], "rmse": sum(kept) / len(kept)}
    for value, vector in zip(values[-len(kept) :], vectors.T[-len(kept) :], strict=True):
        weights += np.sqrt(common[scale] / value) * vector * vector.sum()
    return torch.from_numpy(weights)


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
@pytest.mark.parametrize(("losses", "rank"), [(2, 1), (4, 2), (5, 4), (8, 3)])
def test_dependent_gradients_get_the_weights_of_the_eigenvectors_that_are_there(
    losses, rank, scale
):
    for seed in range(20):
        rows = independent(losses, rank, seed) @ independent(rank, 12, seed + 100)
        weights = AlignedMTL(losses, scale_mode=scale).weigh(
            torch.ones(losses).double(), Gradients(rows)
        )
        expected = slow_weights((rows @ rows.T).numpy(), scale)
        torch.testing.assert_close(weights @ rows, expected @ rows, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rank_test_is_the_number_of_losses_times_the_epsilon_of_the_gradients(dtype):
    limit = 3 * torch.finfo(dtype).eps
    squares = torch.tensor([1.0, 2 * limit, 0.5 * limit], dtype=dtype)
    weights = AlignedMTL(3).weigh(torch.ones(3, dtype=dtype), Gradients(squares.sqrt().diag()))
    expected = torch.stack([squares[1].sqrt(), squares.new_ones(()), squares.new_zeros(())])
    torch.testing.assert_close(weights, expected)
