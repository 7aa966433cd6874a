from __future__ import annotations

import pytest
import torch

from equipoise.gradients.gradients import Gradients
from equipoise.weighting.relobralo import ReLoBRaLo
from tests.golden import assert_matches, load, names, tensor


def follow(golden, balancer):
    """Feeds the recorded draws, with the state in float64 as in a step of float64 losses."""
    balancer.double()
    for index, step in enumerate(golden.steps):
        weights = balancer.advance(tensor(step["losses"]), tensor(step["random"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")
        if "gradient" in step:
            gradient = Gradients(tensor(step["jacobian"])).combine(weights)
            assert_matches(golden, gradient, step["gradient"], f"step {index}")


@pytest.mark.parametrize("name", names("relobralo_authors__*"))
def test_given_draws_follow_the_authors_code(name):
    golden = load(name)
    given = golden.hyperparameters
    balancer = ReLoBRaLo(
        given["T"],
        alpha=given["alpha"],
        expected_rho=given["E_rho"],
        temperature=given["temperature"],
        eps=given["eps"],
        source="code",
    )
    follow(golden, balancer)


@pytest.mark.parametrize("name", names("relobralo_physicsnemo__*"))
def test_given_draws_follow_physicsnemo(name):
    golden = load(name)
    given = golden.hyperparameters
    balancer = ReLoBRaLo(
        given["T"],
        alpha=given["alpha"],
        expected_rho=given["beta"],
        temperature=given["tau"],
        eps=given["eps"],
    )
    follow(golden, balancer)


@pytest.mark.parametrize("name", names("relobralo_config__*"))
def test_given_draws_follow_config(name):
    golden = load(name)
    given = golden.hyperparameters
    balancer = ReLoBRaLo(
        given["T"],
        alpha=given["beta"],
        expected_rho=given["rou"],
        temperature=given["tau"],
        eps=0.0,
    )
    follow(golden, balancer)


def test_weights_sum_to_the_number_of_losses():
    balancer = ReLoBRaLo(4, alpha=0.6, expected_rho=0.5, temperature=0.1)
    for _ in range(20):
        weights = balancer.weigh(torch.rand(4, dtype=torch.float64) + 0.1)
        torch.testing.assert_close(weights.sum(), torch.tensor(4.0, dtype=torch.float64))


def test_scaling_a_loss_changes_no_weight():
    plain, scaled = ReLoBRaLo(2, expected_rho=1.0), ReLoBRaLo(2, expected_rho=1.0)
    for _ in range(6):
        values = torch.rand(2, dtype=torch.float64) + 0.1
        expected = plain.weigh(values)
        torch.testing.assert_close(scaled.weigh(values * torch.tensor([1e3, 1.0])), expected)


def test_rho_is_drawn_as_often_as_expected():
    balancer = ReLoBRaLo(2, expected_rho=0.8, generator=torch.Generator().manual_seed(0))
    draws = [balancer._sample(balancer.drawing.generator) for _ in range(4000)]
    assert torch.stack(draws).mean().item() == pytest.approx(0.8, abs=0.02)


def test_a_saved_balancer_goes_on_with_the_same_draws():
    balancer = ReLoBRaLo(3, alpha=0.5, expected_rho=0.5)
    losses = torch.rand(30, 3) + 0.1
    for values in losses[:10]:
        balancer.weigh(values)
    resumed = ReLoBRaLo(3, alpha=0.5, expected_rho=0.5)
    resumed.load_state_dict(balancer.state_dict())
    for values in losses[10:]:
        assert torch.equal(resumed.weigh(values), balancer.weigh(values))


def test_a_loss_that_comes_late_starts_at_weight_one_and_moves_no_other():
    late, even = ReLoBRaLo(["a", "b", "c"], alpha=0.5), ReLoBRaLo(["a", "b", "c"], alpha=0.5)
    a, b, c = (torch.tensor(value, requires_grad=True) for value in (1.0, 2.0, 1e6))
    for balancer, first in ((late, {"a": a, "b": b}), (even, {"a": a, "b": b, "c": c})):
        balancer(first)
        balancer({"a": 0.5 * a, "b": b, "c": c})
    assert late.weights["c"] == 1
    assert late.weights["a"] == pytest.approx(even.weights["a"])


def test_losses_of_exactly_zero_stay_finite():
    balancer = ReLoBRaLo(2, expected_rho=0.5)
    for values in ([0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1e15, 1e-15]):
        assert balancer.weigh(torch.tensor(values)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"alpha": 1.5}, "`alpha` is 1.5"),
        ({"expected_rho": -0.1}, "`expected_rho` is -0.1"),
        ({"temperature": 0.0}, "`temperature` is 0.0"),
        ({"eps": -1.0}, "`eps` is -1.0"),
        ({"source": "book"}, "'paper' or 'code'"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        ReLoBRaLo(2, **options)
