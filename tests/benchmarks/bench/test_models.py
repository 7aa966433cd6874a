from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.bench.cases import Knobs, method_cases
from equipoise.benchmarks.bench.contest import Contest
from equipoise.benchmarks.bench.models import MODELS, build_model
from equipoise.benchmarks.methods import Method

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", MODELS)
def test_models_are_the_same_at_each_call_and_have_as_many_losses_as_asked_for(name):
    models = [build_model(name, 2, CPU) for _ in range(2)]
    first, second = (model().losses for model in models)
    assert len(first) == models[0].count == 2
    assert all(map(torch.equal, first, second))


def test_a_residual_is_that_of_helmholtz_equation():
    model = build_model("pinn", 2, CPU).double()
    points = model.inputs[1].clone()
    field = lambda x: model.trunk(x[None])[0, 0]  # noqa: E731
    laplacian = [torch.autograd.functional.hessian(field, x).trace() for x in points]
    values = torch.stack([field(x) for x in points]) - points.prod(dim=1)
    expected = (torch.stack(laplacian) + values).square().mean()
    torch.testing.assert_close(model().losses[1], expected)


@pytest.mark.parametrize("method", ["upgrad", "inversegradientnorm", "equal"])
def test_losses_with_graphs_of_their_own_cost_one_plain_pass_together(method):
    (case,) = method_cases([Method(method)], Knobs())
    assert Contest("pinn", 3, CPU).footprint(case).through == 1
