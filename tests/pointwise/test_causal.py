from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import equipoise as eq
from equipoise.pointwise import Causal


def ordered(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def reference(steps, chunks: int, eps, delta: float):
    """Algorithm 1 of the paper; per step residuals and their chunks. Losses, levels, stops."""
    last_seen, level, out = [math.inf] * chunks, 0, []
    for r, index in steps:
        here = {c: [x**2 for x, i in zip(r, index, strict=True) if i == c] for c in set(index)}
        for c, squares in here.items():
            last_seen[c] = sum(squares) / len(squares)
        weights = [math.exp(-eps[level] * sum(last_seen[:i])) for i in range(chunks)]
        loss = sum(weights[c] * last_seen[c] for c in here) / len(here)
        solved = min(weights) > delta
        out.append((loss, solved and level == len(eps) - 1))
        level = min(level + solved, len(eps) - 1)
    return out, level


@pytest.mark.parametrize("batch", [12, 5])
def test_a_trajectory_is_that_of_the_paper_with_its_schedule_of_eps(batch) -> None:
    rng = np.random.default_rng(2)
    steps = []
    for step in range(60):
        chosen = np.sort(rng.permutation(12)[:batch])
        r = rng.normal(size=batch) * 0.85**step
        steps.append((r.tolist(), (chosen // 3).tolist()))
    eps = (0.1, 1.0, 10.0)
    module = Causal(4, eps=eps, delta=0.95)
    found = [(module(ordered(r), index=i).item(), module.converged) for r, i in steps]
    expected, level = reference(steps, 4, eps, 0.95)
    np.testing.assert_allclose([x for x, _ in found], [x for x, _ in expected], rtol=1e-12)
    assert [stop for _, stop in found] == [stop for _, stop in expected]
    assert level == module.level == 2
    assert found[-1][1]
    assert not found[0][1]


def test_without_an_index_residuals_lie_in_order_of_time() -> None:
    r = np.random.default_rng(3).normal(size=12).tolist()
    one, other = Causal(4), Causal(4)
    assert one(ordered(r)).item() == pytest.approx(
        other(ordered(r), index=[i // 3 for i in range(12)]).item(), rel=1e-14
    )


def test_a_chunk_is_not_held_back_by_its_own_loss() -> None:
    module = Causal(2, eps=1.0)
    module(ordered([3.0, 5.0]))
    np.testing.assert_allclose(module.weights.numpy(), [1.0, math.exp(-9.0)], rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8))
def test_weights_never_rise_with_time_and_start_at_one(r) -> None:
    module = Causal(len(r), eps=0.5)
    module(ordered(r))
    assert module.weights[0] == 1
    assert (module.weights.diff() <= 0).all()


def test_what_comes_after_a_chunk_never_seen_waits() -> None:
    module = Causal(3, eps=1.0)
    assert module(ordered([0.0, 7.0]), index=[0, 2]).item() == 0
    assert module.weights.tolist() == [1, 1, 0]
    module(ordered([0.0]), index=[1])
    assert module.weights.tolist() == [1, 1, 1]


def test_chunks_that_were_resampled_are_forgotten_and_the_level_stays() -> None:
    module = Causal(3, eps=(1.0, 2.0))
    module(ordered([0.0, 0.0, 0.0]))
    module.reset([1])
    assert module.weights.tolist() == [1, 1, 0]
    assert module.level == 1
    module.reset()
    assert module.level == 0
    with pytest.raises(ValueError, match="chunks are numbered from 0 to 2"):
        module.reset([3])


def test_the_level_of_eps_is_resumed() -> None:
    module, resumed = Causal(2, eps=(1.0, 2.0)), Causal(2, eps=(1.0, 2.0))
    for _ in range(2):
        module(ordered([0.0, 0.0]))
    resumed.load_state_dict(module.state_dict())
    assert resumed.level == 1
    assert resumed.converged


def test_a_checkpoint_of_a_longer_schedule_goes_on_with_the_last_eps_given() -> None:
    module, shorter = Causal(2, eps=(1.0, 2.0, 3.0)), Causal(2, eps=4.0)
    for _ in range(3):
        module(ordered([0.0, 0.0]))
    with pytest.warns(UserWarning, match="what was given now counts"):
        shorter.load_state_dict(module.state_dict())
    shorter(ordered([0.5, 0.0]))
    np.testing.assert_allclose(shorter.weights.numpy(), [1.0, math.exp(-1.0)], rtol=1e-12)
    assert not shorter.converged


def test_it_is_a_name_of_the_package() -> None:
    assert eq.Causal is Causal is eq.pointwise.Causal


def test_residuals_that_make_no_equal_chunks_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"7 residuals do not make 3 equal chunks; write\s`index=`"
    ):
        Causal(3)(ordered([1.0] * 7))


def test_a_chunk_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="holds 3; the chunks are numbered from 0 to 2"):
        Causal(3)(ordered([1.0]), index=[3])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chunks": 0}, "`chunks` is 0"),
        ({"delta": 1.0}, "delta"),
        ({"eps": 0.0}, "eps"),
        ({"eps": ()}, "must increase"),
        ({"eps": (1.0, 1.0)}, "must increase"),
    ],
)
def test_arguments_out_of_range_are_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        Causal(**{"chunks": 3, **given})
