from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.gradients.gradients import Gradients
from equipoise.gradients.linalg import l2_norm
from equipoise.gradients.passes import Passes

shapes = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31))


def matrix(shape: tuple[int, int, int]) -> torch.Tensor:
    losses, width, seed = shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(losses, width, dtype=torch.float64, generator=generator)


def passes_of(losses, parameters, **options) -> Passes:
    return Passes(losses, parameters, **options)


@given(shapes)
def test_norms_gramian_and_combination_are_those_of_the_matrix(shape) -> None:
    rows = matrix(shape)
    gradients = Gradients(rows)
    weights = torch.arange(len(rows), dtype=torch.float64)
    torch.testing.assert_close(gradients.norms(), rows.norm(dim=1))
    torch.testing.assert_close(gradients.gram(), rows @ rows.T)
    torch.testing.assert_close(gradients.combine(weights), weights @ rows)
    unit = rows / rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(gradients.cosines(), unit @ unit.T)


@given(shapes)
def test_scaled_losses_have_scaled_gradients(shape) -> None:
    rows = matrix(shape)
    factors = torch.linspace(-1, 2, len(rows), dtype=torch.float64)
    scaled, plain = Gradients(rows).scaled(factors), Gradients(rows * factors[:, None])
    weights = torch.ones(len(rows), dtype=torch.float64)
    torch.testing.assert_close(scaled.matrix(), plain.matrix())
    torch.testing.assert_close(scaled.norms(), plain.norms())
    torch.testing.assert_close(scaled.gram(), plain.gram())
    torch.testing.assert_close(scaled.combine(weights), plain.combine(weights))
    torch.testing.assert_close(scaled.per_loss(l2_norm), plain.per_loss(l2_norm))
    assert len(scaled) == len(plain)


def test_a_zero_gradient_has_cosine_zero() -> None:
    cosines = Gradients(torch.tensor([[0.0, 0.0], [1.0, 0.0]])).cosines()
    assert cosines.tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_columns_are_told_apart_by_tensor() -> None:
    gradients = Gradients(torch.arange(6.0).reshape(2, 3), sizes=[1, 2])
    first, second = gradients.tensors()
    assert first.matrix().tolist() == [[0.0], [3.0]]
    assert second.matrix().tolist() == [[1.0, 2.0], [4.0, 5.0]]
    first, second = gradients.scaled(torch.tensor([1.0, -2.0])).tensors()
    assert first.matrix().tolist() == [[0.0], [-6.0]]
    assert second.norms().tolist() == pytest.approx([5**0.5, 2 * 41**0.5])


WIDE = 400_000  # more than one block of three rows


def test_a_formula_sees_every_column_once_and_in_its_place() -> None:
    rows, limit = torch.randn(3, WIDE), torch.rand(WIDE)
    factors = torch.tensor([1.0, -2.0, 0.5])
    found = Gradients(rows).scaled(factors).entrywise(lambda g, u: g.amax(0).maximum(u), limit)
    assert torch.equal(found, (rows * factors[:, None]).amax(0).maximum(limit))


def test_state_beside_the_columns_can_be_changed_block_by_block() -> None:
    rows = torch.randn(3, WIDE)
    state, seen = torch.ones(3, 2, WIDE), 0
    for block, beside in Gradients(rows).blocks(state):
        assert block.numel() < rows.numel()
        beside.add_(block[:, None])
        seen += block.shape[1]
    assert seen == WIDE
    assert torch.equal(state, 1 + rows[:, None].expand(3, 2, WIDE))


def test_no_columns_at_all_give_no_entries() -> None:
    assert Gradients(torch.zeros(2, 0)).entrywise(lambda g: g.sum(0)).shape == (0,)


def test_a_part_of_the_columns_serves_formulas_of_one_column_and_no_sums_over_them() -> None:
    part = Gradients(torch.ones(2, 3), pool=lambda products: products)
    assert part.entrywise(lambda g: g.sum(0)).tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(TypeError, match="needs whole gradients"):
        part.blocks()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[T, P\]; got \(3,\)"):
        Gradients(torch.zeros(3))
    with pytest.raises(ValueError, match="add up to 2, but `matrix` has 3 columns"):
        Gradients(torch.zeros(2, 3), sizes=[1, 1])


def test_half_precision_rows_give_a_single_precision_gramian() -> None:
    assert Gradients(torch.ones(2, 3, dtype=torch.bfloat16)).gram().dtype == torch.float32
