from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.pointwise import ResidualAttention


def reference(steps, gamma: float, eta: float, count: int):
    """Of steps of residuals and their index: losses and weights as in the paper, one by one."""
    lam, losses = [0.0] * count, []
    for r, index in steps:
        largest = max(abs(x) for x in r)
        for x, i in zip(r, index, strict=True):
            lam[i] = gamma * lam[i] + eta * abs(x) / largest
        losses.append(sum((lam[i] * x) ** 2 for x, i in zip(r, index, strict=True)) / len(r))
    return losses, lam


@pytest.mark.parametrize("batch", [7, 3])
def test_a_trajectory_is_that_of_the_paper(batch) -> None:
    rng = np.random.default_rng(0)
    steps = [
        (rng.normal(size=batch).tolist(), rng.permutation(7)[:batch].tolist()) for _ in range(40)
    ]
    module = ResidualAttention(7, decay=0.95, lr=0.02)
    found = [
        module(torch.tensor(r, dtype=torch.float64, requires_grad=True), index=index).item()
        for r, index in steps
    ]
    losses, lam = reference(steps, 0.95, 0.02, 7)
    np.testing.assert_allclose(found, losses, rtol=1e-12)
    np.testing.assert_allclose(module.attention.numpy(), lam, rtol=1e-12)
    np.testing.assert_allclose(module.weights.numpy(), np.square(lam), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    st.floats(0, 0.99),
    st.floats(1e-3, 1.0),
)
def test_weights_stay_within_the_bound_of_the_paper(r, decay, lr) -> None:
    module = ResidualAttention(decay=decay, lr=lr)
    residuals = torch.tensor(r, dtype=torch.float64, requires_grad=True)
    for _ in range(5):
        module(residuals)
    assert (module.attention >= 0).all()
    assert (module.attention <= lr / (1 - decay) * (1 + 1e-9)).all()


def test_residuals_that_are_all_zero_add_nothing() -> None:
    module = ResidualAttention(decay=0.5, lr=1.0)
    module(torch.tensor([1.0, 2.0], requires_grad=True))
    assert module(torch.zeros(2, requires_grad=True)).item() == 0
    assert module.attention.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("given", "message"),
    [({"points": 0}, "`points` is 0"), ({"decay": 1.0}, "decay"), ({"lr": 0.0}, "lr")],
)
def test_arguments_out_of_range_are_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualAttention(**given)
