"""The equations: residuals and conditions vanish at the solution, and nowhere else."""

from __future__ import annotations

import sys

import pytest
import torch

from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems import find_problem, pinn
from equipoise.benchmarks.problems.burgers import exact

EQUATIONS = ("helmholtz", "klein_gordon", "wave", "burgers")


def parts(name):
    module = sys.modules[f"equipoise.benchmarks.problems.{name}"]
    return module._losses, exact if name == "burgers" else module._exact


@pytest.mark.parametrize("name", EQUATIONS)
def test_every_loss_is_zero_at_the_solution_and_at_no_other_field(name):
    compute_losses, solution = parts(name)
    unit = torch.rand(200, 2, dtype=torch.float64)
    found = compute_losses(solution, unit)
    assert set(found) == set(find_problem(name).losses)
    assert max(loss.item() for loss in found.values()) < 1e-12
    other = compute_losses(
        lambda p: solution(p) + 0.1 * p.square().sum(dim=1) + 0.1 * p[:, 1] + 1, unit
    )
    assert min(loss.item() for loss in other.values()) > 1e-3


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_metric_is_the_logarithm_of_the_relative_error_of_the_field(name):
    trial = start_trial(find_problem(name), 0)
    with torch.no_grad():
        for parameter in trial.model.layers[-1].parameters():
            parameter.zero_()
        # Zero everywhere is wrong by the whole solution.
        assert trial.evaluate() == pytest.approx(0.0, abs=1e-6)
        assert trial.validate() == pytest.approx(0.0, abs=1e-6)


def test_the_quadrature_agrees_with_one_of_twice_the_nodes(monkeypatch):
    axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
    points = torch.cartesian_prod(axis, (axis + 1) / 2)
    coarse = exact(points)
    monkeypatch.setattr(sys.modules[exact.__module__], "_NODES", 200)
    torch.testing.assert_close(coarse, exact(points), rtol=0, atol=1e-6)


def test_the_slope_of_the_shock_is_the_known_one():
    # Basdevant et al. 1986: |du/dx| at x = 0 is at most 152.00516, at pi t = 1.6037.
    points = torch.tensor([[0.0, 1.6037 / torch.pi]], dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(exact(points).sum(), points)
    assert float(slopes[0, 0]) == pytest.approx(-152.00516, rel=1e-5)


def test_lbfgs_ends_in_the_minimum_of_the_weighted_sum():
    model = torch.nn.Linear(1, 1, bias=False)

    def compute_losses():
        value = model(torch.ones(1, 1)).square().sum()
        return {"one": (model.weight - 1).square().sum(), "two": value}

    pinn.minimise(model, compute_losses, {"one": 3.0, "two": 1.0})
    assert model.weight.item() == pytest.approx(0.75, abs=1e-4)
