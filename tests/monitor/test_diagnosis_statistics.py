"""Noise is taken out of norms and cosines, and intervals hold what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from equipoise.monitor.diagnosis_statistics import (
    Products,
    cosine,
    jackknifed,
    mean_of,
    signal_of,
)

RANDOM = np.random.default_rng(0)


def noisy(truth: np.ndarray, noise: float, batches: int) -> np.ndarray:
    return truth + noise * RANDOM.standard_normal((batches, len(truth)))


def test_products_of_different_batches_are_those_of_all_pairs():
    left, right = RANDOM.standard_normal((2, 5, 3))
    pairs = [left[a] @ right[b] for a in range(5) for b in range(5) if a != b]
    assert Products(left, right).value == pytest.approx(np.mean(pairs))
    without = [left[a] @ right[b] for a in range(5) for b in range(5) if a != b and 2 not in (a, b)]
    assert Products(left, right).without[2] == pytest.approx(np.mean(without))


@pytest.mark.parametrize("squares", [(-1.0, -1.0), (-1.0, 4.0), (4.0, -1.0)])
def test_there_is_no_cosine_where_a_squared_norm_is_below_zero(squares):
    with np.errstate(invalid="ignore"):
        assert math.isnan(cosine(np.float64(1.0), *map(np.float64, squares)))
    assert cosine(np.float64(1.0), np.float64(1.0), np.float64(4.0)) == pytest.approx(0.5)


def test_noise_that_two_losses_share_leaves_no_trace_in_their_cosine():
    truth = np.zeros((2, 40))
    truth[0, 0] = truth[1, 1] = 1.0
    found = []
    for _ in range(200):
        common = noisy(np.zeros(40), 0.3, 20)
        left, right = truth[0] + common, truth[1] + common
        products = Products(left, right), Products(left, left), Products(right, right)
        found.append(jackknifed(cosine, 0.95, *products).value)
        inside = np.mean((left * right).sum(axis=1))
        assert inside > 2  # the same batches alone would call them aligned
    assert np.mean(found) == pytest.approx(0.0, abs=0.02)


def missed(formula, truth: float, width: int, batches: int, *, of_product: bool) -> tuple[int, int]:
    """How often of 200 times the true number lies below and above the interval."""
    random = np.random.default_rng(width)
    goals = np.zeros((2, width))
    goals[0, 0], goals[1, 0], goals[1, 1] = 1.0, -0.8, 0.6
    below = above = 0
    for _ in range(200):
        noise = random.standard_normal((2, batches, width)) * 1.5 / math.sqrt(width)
        a, b = goals[:, None] + noise
        products = Products(a, b), Products(a, a), Products(b, b)
        interval = jackknifed(formula, 0.95, *products[: 1 if of_product else 3])
        below += truth < interval.low
        above += truth > interval.high
    return below, above


@pytest.mark.parametrize("width", [2, 10, 200])
@pytest.mark.parametrize("batches", [10, 20])
def test_intervals_of_a_product_on_which_a_conflict_rests_hold_the_true_one(width, batches):
    below, above = missed(lambda inner: inner, -0.8, width, batches, of_product=True)
    assert max(below, above) <= 200 * 0.09


@pytest.mark.parametrize("width", [2, 10, 200])
@pytest.mark.parametrize("batches", [10, 20])
def test_intervals_of_a_cosine_hold_the_true_one(width, batches):
    below, above = missed(cosine, -0.8, width, batches, of_product=False)
    assert max(below, above) <= 200 * 0.09


@pytest.mark.parametrize("width", [1, 2, 10, 500])
def test_pure_noise_is_rarely_taken_for_a_signal(width):
    told = 0
    for _ in range(400):
        batches = noisy(np.zeros(width), 1.0, 12)
        told += signal_of(batches, np.linalg.norm(batches, axis=1), 0.95).along.low > 0
    assert told <= 400 * 0.08


def test_signal_and_noise_add_up_to_what_is_seen():
    truth = np.full(100, 0.2)
    batches = noisy(truth, 0.3, 5000)
    signal = signal_of(batches, np.linalg.norm(batches, axis=1), 0.95)
    assert signal.square == pytest.approx(4.0, rel=0.05)
    assert signal.noise == pytest.approx(9.0, rel=0.05)
    assert signal.coherence == pytest.approx(2 / math.sqrt(13), rel=0.02)


def test_the_number_of_batches_that_would_do_is_about_right():
    truth = np.full(100, 0.02)
    batches = noisy(truth, 0.3, 5000)
    signal = signal_of(batches, np.linalg.norm(batches, axis=1), 0.95)
    assert signal.batches_needed(noise=1.0) == pytest.approx(9 / 0.04, rel=0.2)


def test_without_noise_everything_is_known():
    same = np.tile([3.0, 4.0], (3, 1))
    signal = signal_of(same, np.linalg.norm(same, axis=1), 0.95)
    assert (signal.square, signal.noise) == pytest.approx((25, 0))
    assert signal.along.low == pytest.approx(5)
    assert signal.is_told(noise=1.0)


def test_a_mean_of_one_has_no_interval():
    assert mean_of(np.array([0.5]), 0.95).half_width == math.inf
    assert math.isnan(mean_of(np.array([]), 0.95).value)
