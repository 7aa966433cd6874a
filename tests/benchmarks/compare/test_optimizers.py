"""Every method can be compared with another optimizer than the problem's own."""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch
from torch import nn

from equipoise.benchmarks.compare.fingerprint import take_fingerprint
from equipoise.benchmarks.compare.optimizers import OPTIMIZERS, MuonAndAdam, with_optimizer
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.training import train
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problem import BuildOptimizer
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.small import problem
from tests.releases import has_muon

HAS_SOAP = importlib.util.find_spec("pytorch_optimizer") is not None
NEEDS = {
    "soap": pytest.mark.skipif(not HAS_SOAP, reason="pytorch-optimizer is not installed"),
    "muon": has_muon,
}
NAMES = [pytest.param(name, marks=NEEDS.get(name, ())) for name in OPTIMIZERS]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_it_learns(name):
    options = TrainingOptions(epochs=30, batch_size=8, lr=1e-2, optimizer=name)
    run = train(with_optimizer(problem(), name), Method("right"), options, 0, lambda *_: None)
    assert run.metric < 0.8 * run.metric_curve[0]
    assert run.options.optimizer == name


@has_muon
def test_muon_turns_matrices_and_leaves_all_else_to_adam():
    model = nn.Linear(3, 4)
    gradient = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    model.weight.grad, model.bias.grad = gradient, torch.tensor([1.0, -2.0, 3.0, -4.0])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    MuonAndAdam(model.parameters(), lr=0.1).step()
    moved = {name: value.detach() - before[name] for name, value in model.named_parameters()}
    # Adam's first step is the learning rate against the sign; Muon's has equal singular values.
    assert moved["bias"].tolist() == pytest.approx([-0.1, 0.1, -0.1, 0.1], abs=1e-6)
    values = torch.linalg.svdvals(moved["weight"])
    assert float(values.max() / values.min()) < 2 < float(torch.linalg.cond(gradient))


def step_sizes(text: str, gradients: list[float]) -> list[float]:
    """How far one parameter moves at each step, in learning rates."""
    return moves(with_optimizer(problem(), text).start(0).optimizer, gradients)


def moves(build: BuildOptimizer, gradients: list[float]) -> list[float]:
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = build([parameter], 1.0)
    moved = []
    for gradient in gradients:
        before = parameter.item()
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        moved.append(abs(parameter.item() - before))
    return moved


def test_adam_is_that_of_torch_unless_it_is_told_otherwise():
    gradients = [1000.0, *[1.0] * 5]
    expected = moves(torch.optim.Adam, gradients)
    assert step_sizes("adam", gradients) == pytest.approx(expected, abs=1e-12)


def test_after_its_moments_are_cleared_adam_steps_as_at_its_first_step():
    gradients = [1000.0, 1.0, 1.0, 1.0]
    remembered = step_sizes("adam", gradients)
    cleared = step_sizes("adam:forget_after=2", gradients)
    assert cleared[:2] == remembered[:2]
    assert cleared[2:] == pytest.approx([1.0, 1.0], abs=1e-6)


def test_with_a_smaller_beta2_adam_forgets_sooner():
    gradients = [1000.0, *[1.0] * 100]
    assert step_sizes("adam:beta2=0.5", gradients)[-1] == pytest.approx(1.0, abs=0.01)
    assert step_sizes("adam", gradients)[-1] < 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adam:beta3=1", "has no option 'beta3'. It takes beta2, forget_after"),
        ("sgd:beta2=0.9", "has no option 'beta2'. It takes none"),
        ("adam:beta2=soon", "beta2 is a number; got 'soon'"),
        ("adam:beta2=2", "adam:beta2=2: "),
        ("adam:forget_after=1.5", "is a number of steps; got 1.5"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(text, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        with_optimizer(problem(), text)


def test_the_source_of_a_problem_is_still_its_own():
    own = take_fingerprint(problem(), 8)
    assert take_fingerprint(with_optimizer(problem(), "sgd"), 8) == own


def test_an_unknown_optimizer_is_refused_with_the_nearest():
    with pytest.raises(RequestError, match="Did you mean 'adam'"):
        with_optimizer(problem(), "adan")


@pytest.mark.skipif(HAS_SOAP, reason="pytorch-optimizer is installed")
def test_without_soap_it_says_what_to_install():
    with pytest.raises(RequestError, match=r"equipoise\[optimizers\]") as refused:
        with_optimizer(problem(), "soap")
    assert str(refused.value).count("--optimizer") == 1
