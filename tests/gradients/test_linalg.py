from __future__ import annotations

import pytest
import torch

from equipoise.gradients.linalg import (
    _batched,
    at_least_float32,
    column_blocks,
    gramian,
    inner,
    row_norms,
    tensor_norms,
)


@pytest.mark.parametrize("width", [1, 100, 1 << 14, (1 << 14) + 1, 50_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gramian_of_blocks_is_that_of_the_whole_matrix(width, dtype) -> None:
    matrix = torch.randn(4, width, dtype=torch.float64).to(dtype)
    exact = matrix.double() @ matrix.double().T
    tolerance = {torch.float64: 1e-11, torch.float32: 1e-4, torch.bfloat16: 1e-2}[dtype]
    found = gramian(matrix)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance * width**0.5)


def test_blocks_are_views_that_cover_every_column_once() -> None:
    wide, beside = torch.zeros(3, 400_000), torch.zeros(400_000)
    for block, part in column_blocks(wide, beside):
        block.add_(1)
        part.add_(1)
    assert bool((wide == 1).all())
    assert bool((beside == 1).all())


def test_only_half_precision_is_widened() -> None:
    assert at_least_float32(torch.zeros(1, dtype=torch.float16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("width", [1 << 14, (1 << 14) + 1, 50_000])
def test_all_blocks_at_once_give_the_same_gramian(width) -> None:
    matrix = torch.randn(4, width + 3, dtype=torch.float64)[:, :width]
    torch.testing.assert_close(_batched(matrix), matrix @ matrix.T)


def test_norms_of_millions_of_numbers_keep_their_digits() -> None:
    matrix = torch.randn(2, (1 << 22) + 5)
    exact = matrix.double().norm(dim=1)
    torch.testing.assert_close(row_norms(matrix).double(), exact, rtol=1e-6, atol=0)
    found = torch.stack(tensor_norms([matrix[0], matrix[1, :3], matrix[1]], torch.float32))
    expected = torch.stack([exact[0], matrix[1, :3].double().norm(), exact[1]])
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(300, 300).t(),
        torch.randn(300, 600)[:, ::2],
        torch.randn(2, 64, 32, 32).to(memory_format=torch.channels_last),
        torch.randn(300, 300).half() * 300,
        torch.randn(300, 300, dtype=torch.complex64),
    ],
    ids=["transposed", "with gaps", "channels last", "half", "complex"],
)
def test_norms_of_large_tensors_do_not_depend_on_how_they_lie_in_memory(tensor) -> None:
    exact = tensor.to(torch.complex128 if tensor.is_complex() else torch.float64).abs().norm()
    (found,) = tensor_norms([tensor], torch.float32)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)


def test_inner_products_of_millions_of_numbers_keep_their_digits() -> None:
    left = torch.randn((1 << 24) + 5)
    right = left + 0.1 * torch.randn(len(left))
    exact = left.double() @ right.double()
    torch.testing.assert_close(inner(left, right).double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(inner(left[:7], right[:7]), left[:7] @ right[:7])
