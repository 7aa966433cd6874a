from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from equipoise.parts.notices import IDLE_STEPS
from equipoise.weighting.ntk_trace import NTKTrace, ntk_diagonal
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("ntk_jaxpi__*"))
def test_weights_follow_jaxpi(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = NTKTrace(
        options["T"],
        momentum=options["momentum"],
        initial=options["w0"],
        eps=options["eps_rel"],
    )
    ones = torch.ones(options["T"], dtype=torch.float64)
    for index, step in enumerate(golden.steps):
        balancer.observe({str(i): tensor(d) for i, d in enumerate(step["ntk_diag"])})
        weights = balancer.weigh(ones)
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_the_papers_weights_are_ratios_of_traces():
    balancer = NTKTrace(2, momentum=0.0, pooling="trace", eps=1e-12)
    balancer.observe({"0": [1.0, 3.0], "1": [12.0]})
    torch.testing.assert_close(balancer.weigh(tensor([1.0, 1.0])), tensor([4.0, 16 / 12]))


@pytest.mark.parametrize("told", [{"a": [4.0], "b": [1.0]}, {"a": [4.0]}, {}])
def test_a_kernel_that_stays_unknown_is_told_once(told):
    balancer = NTKTrace(["a", "b"])
    balancer.observe(told)
    weight = torch.ones(2, requires_grad=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(IDLE_STEPS + 3):
            balancer.backward([weight.sum(), weight.square().sum()])
    said = [str(each.message) for each in caught]
    assert len(said) == (0 if len(told) == 2 else 1)
    assert all("`balancer.observe(diagonals)`" in each for each in said)


def test_weights_rest_until_all_losses_are_observed_anew():
    balancer = NTKTrace(["a", "b"], initial={"a": 1.0, "b": 10.0})
    values = tensor([1.0, 1.0])
    balancer.observe({"a": [4.0]})
    assert balancer.weigh(values).tolist() == [1.0, 10.0]
    balancer.observe({"b": [1.0]})
    changed = balancer.weigh(values).clone()
    assert changed[0] < 1
    assert torch.equal(balancer.weigh(values), changed)


def test_the_diagonal_is_that_of_the_kernel_of_the_jacobian():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    points = torch.randn(4, 2, dtype=torch.float64)
    parameters = dict(model.named_parameters())
    rows = torch.func.jacrev(
        lambda held: torch.func.functional_call(model, held, (points,)).flatten()
    )(parameters)
    jacobian = torch.cat([row.flatten(1) for row in rows.values()], dim=1)
    found = ntk_diagonal(model(points).flatten(), list(parameters.values()))
    torch.testing.assert_close(found, (jacobian @ jacobian.T).diagonal())


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unknown name 'x'"):
        NTKTrace(["a", "b"]).observe({"x": [1.0]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "`momentum`"),
        ({"pooling": "max"}, "'trace'"),
        ({"eps": 0.0}, "`eps`"),
        ({"initial": [1.0]}, "`initial` needs 2"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NTKTrace(2, **options)
