from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import equipoise as eq
from equipoise.weighting.softadapt import forward_difference
from tests.golden import assert_matches, load, names, tensor

VARIANTS = ("original", "normalized", "loss_weighted")
ALL = [name for variant in VARIANTS for name in names(f"softadapt_{variant}__*")]


def variant_of(name: str) -> str:
    return name.removeprefix("softadapt_").split("__")[0]


@pytest.mark.parametrize("name", [name for name in ALL if not name.endswith("rolling")])
def test_weights_from_a_stored_history_are_the_authors(name) -> None:
    golden = load(name)
    hyper = golden.hyperparameters
    for index, step in enumerate(golden.steps):
        history = tensor(step["history"])
        balancer = eq.SoftAdapt(
            len(history),
            beta=hyper["beta"],
            order=hyper["accuracy_order"],
            window=history.shape[1],
            variant=variant_of(name),
        )
        for values in history.T:
            weights = balancer.weigh(values)
        assert_matches(golden, weights, step["weights"], f"step {index}")


def live(values: torch.Tensor) -> list[torch.Tensor]:
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    return [value + theta for value in values]


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("rolling")])
@pytest.mark.parametrize("through", ["weigh", "backward"])
def test_a_rolling_window_follows_the_authors(name, through) -> None:
    golden = load(name)
    hyper = golden.hyperparameters
    balancer = eq.SoftAdapt(
        hyper["T"], beta=hyper["beta"], order=hyper["accuracy_order"], variant=variant_of(name)
    )
    for index, step in enumerate(golden.steps):
        values = tensor(step["losses"])
        if through == "weigh":
            weights = balancer.weigh(values)
        else:
            weights = balancer.backward(live(values)).weights
        assert_matches(golden, weights, step["weights"], f"step {index}")


@given(st.integers(1, 8), st.integers(0, 5))
def test_forward_differences_are_exact_for_polynomials_of_their_order(order, power) -> None:
    coefficients = [Fraction(c).limit_denominator(10**6) for c in forward_difference(order)]
    power = min(power, order)
    found = sum(c * Fraction(k) ** power for k, c in enumerate(coefficients))
    assert found == (1 if power == 1 else 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_steep_slope_with_negative_beta_does_not_overflow(variant) -> None:
    balancer = eq.SoftAdapt(3, beta=-1.0, order=1, variant=variant)
    balancer.weigh(tensor([1e6, 1.0, 2.0]))
    weights = balancer.weigh(tensor([1.0, 2.0, 3e6]))
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(), tensor(1.0), rtol=1e-6, atol=1e-6)


def test_cancelling_slopes_keep_the_last_weights() -> None:
    balancer = eq.SoftAdapt(2, order=1, variant="normalized")
    balancer.weigh(tensor([1.0, 1.0]))
    before = balancer.weigh(tensor([1.5, 1.25]))
    assert torch.equal(balancer.weigh(tensor([2.0, 0.75])), before)


def test_the_paper_s_slope_is_that_at_the_newest_value() -> None:
    balancer = eq.SoftAdapt(2, beta=1.0, order=2, source="paper")
    parabola = [tensor([float(t**2), 0.0]) for t in range(3)]  # slope 4 at t = 2, 0 at t = 0
    for values in parabola:
        weights = balancer.weigh(values)
    torch.testing.assert_close(weights, torch.softmax(tensor([4.0, 0.0]), 0), rtol=1e-6, atol=1e-6)


def test_the_paper_s_normalisation_keeps_the_ranking_where_losses_fall() -> None:
    values = [tensor([3.0, 3.0]), tensor([1.0, 2.0])]
    code = eq.SoftAdapt(2, beta=1.0, order=1, variant="normalized")
    paper = eq.SoftAdapt(2, beta=1.0, order=1, variant="normalized", source="paper")
    for step in values:
        reversed_, kept = code.weigh(step), paper.weigh(step)
    assert kept[0] < kept[1]
    assert reversed_[0] > reversed_[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"variant": "plain"}, "'original', 'normalized' or 'loss_weighted'"),
        ({"source": "book"}, "'code' or 'paper'"),
        ({"order": 3, "window": 3}, "`order` 3 reads 4 values, `window` is 3"),
        ({"order": 0}, "`order` 0"),
    ],
)
def test_choices_that_cannot_be_are_refused(options, says) -> None:
    with pytest.raises(ValueError, match=says):
        eq.SoftAdapt(2, **options)
