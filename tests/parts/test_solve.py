from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from equipoise.parts.solve import solve, solve_gramian


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_solver_sees_float64_and_the_answer_has_the_dtype_of_the_gramian(dtype):
    seen = []

    def diagonal(gram):
        seen.append(gram.dtype)
        return gram.diagonal().copy()

    gram = torch.diag(torch.tensor([1.0, 4.0], dtype=dtype))
    assert torch.equal(solve(gram, diagonal), torch.tensor([1.0, 4.0], dtype=dtype))
    assert seen == [np.float64]


@pytest.mark.parametrize("entry", [math.nan, math.inf, -math.inf])
def test_a_gramian_that_is_not_finite_gives_nan_and_reaches_no_solver(entry):
    gram = torch.eye(3)
    gram[0, 1] = entry

    def never(_):
        raise AssertionError

    assert solve(gram, never).isnan().tolist() == [True, True, True]


def test_rows_below_the_gramian_reach_the_solver_with_it():
    given = torch.cat([torch.eye(2), torch.tensor([[3.0, 5.0]])])
    assert torch.equal(solve(given, lambda rows: rows[-1].copy()), torch.tensor([3.0, 5.0]))
    given[0, 0] = math.nan
    assert solve(given, lambda rows: rows[-1].copy()).shape == (2,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_solver_is_told_the_precision_of_the_gramian_whatever_is_beside_it(dtype):
    told = []

    def solver(gram, beside, precision):
        told.append((gram.shape, precision))
        return gram @ beside

    beside = torch.tensor([3.0, 5.0], dtype=torch.float64)
    found = solve_gramian(2 * torch.eye(2, dtype=dtype), solver, beside)
    assert found.tolist() == [6.0, 10.0]
    assert told == [((2, 2), torch.finfo(dtype).eps)]
