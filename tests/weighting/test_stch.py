from __future__ import annotations

import pytest
import torch

from equipoise.weighting.stch import STCH
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("stch_torchjd__*"))
def test_the_plain_form_follows_torchjd(name):
    golden = load(name)
    given = golden.hyperparameters
    balancer = STCH(
        len(given["weights"]),
        mu=given["mu"],
        preference=given["weights"],
        reference=given["reference"],
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


@pytest.mark.parametrize("name", names("stch_official__*"))
def test_the_plain_form_follows_the_authors_pareto_set_learning(name):
    golden = load(name)
    given = golden.hyperparameters
    for index, step in enumerate(golden.steps):
        balancer = STCH(
            len(step["losses"]),
            mu=given["mu"],
            preference=step["preference"],
            reference=given["reference"],
        )
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


@pytest.mark.parametrize("name", names("stch_libmtl__*"))
def test_the_log_form_follows_the_authors_network_training(name):
    golden = load(name)
    given = golden.hyperparameters
    epoch = given["batches_per_epoch"]
    balancer = STCH(
        given["T"],
        mu=given["mu"],
        form="log",
        warmup=epoch * given["warmup_epoch"],
        nadir_steps=epoch,
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")
    assert_matches(golden, balancer.nadir, given["nadir"], "nadir")


def test_weights_are_the_derivative_of_the_smooth_maximum():
    values = torch.rand(4, dtype=torch.float64).requires_grad_()
    smooth = 0.2 * torch.logsumexp(values / 4 / 0.2, dim=0)
    (expected,) = torch.autograd.grad(smooth, values)
    torch.testing.assert_close(STCH(4, mu=0.2).weigh(values), expected)


def test_a_small_mu_leaves_the_worst_loss_alone():
    weights = STCH(3, mu=1e-4).weigh(torch.tensor([1.0, 1.2, 0.3]))
    torch.testing.assert_close(weights, torch.tensor([0.0, 1 / 3, 0.0]))


def test_the_log_form_does_not_know_the_scales_of_losses():
    plain, scaled = (STCH(2, mu=0.5, form="log", nadir_steps=2) for _ in range(2))
    scales = torch.tensor([1e3, 1.0], dtype=torch.float64)
    for _ in range(5):
        values = torch.rand(2, dtype=torch.float64) + 0.1
        expected = plain.weigh(values) * values
        torch.testing.assert_close(scaled.weigh(values * scales) * values * scales, expected)


def test_the_log_form_resumes_after_the_nadir_was_measured():
    balancer = STCH(2, form="log", nadir_steps=1)
    balancer.weigh(torch.tensor([2.0, 3.0]))
    resumed = STCH(2, form="log", nadir_steps=1)
    resumed.load_state_dict(balancer.state_dict())
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(resumed.weigh(values), balancer.weigh(values))


@pytest.mark.parametrize("form", ["plain", "log"])
def test_losses_of_exactly_zero_stay_finite(form):
    balancer = STCH(2, mu=0.01, form=form, nadir_steps=1)
    for values in ([0.0, 1.0], [0.0, 1e15], [0.0, 0.0]):
        assert balancer.weigh(torch.tensor(values)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mu": 0.0}, "`mu` is 0.0"),
        ({"form": "smooth"}, "'plain' or 'log'"),
        ({"warmup": -1}, "`warmup` is -1"),
        ({"nadir_steps": 0}, "`nadir_steps` is 0"),
        ({"preference": [1.0, -1.0]}, "no entry may be negative"),
        ({"preference": [0.5, 0.5], "form": "log"}, "belong to form='plain'"),
        ({"reference": torch.ones(2), "form": "log"}, "belong to form='plain'"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        STCH(2, **options)
