"""Methods that cheat, planted: they may not see test data, nor move the model themselves."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from typer.testing import CliRunner

import equipoise as eq
from equipoise import registry
from equipoise.benchmarks.compare.honest import Watched, withheld
from equipoise.benchmarks.compare.trainers import build_trainer
from equipoise.benchmarks.compare.training import MethodError, start_trial, take_step, train
from equipoise.benchmarks.methods import Method, methods_for
from equipoise.cli import app
from tests.benchmarks.compare.conftest import OPTIONS
from tests.benchmarks.small import problem


def leaves(losses):
    """Parameters, as any method can find them: at the ends of the graph."""
    found, open_ = {}, [loss.grad_fn for loss in losses.values()]
    while open_:
        node = open_.pop()
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        open_ += [below for below, _ in node.next_functions if below is not None]
    return list(found.values())


class Decaying(eq.Equal):
    """Shrinks the parameters, as one that looks ahead and comes back inexactly."""

    late = 0

    def backward(self, losses, **options):
        super().backward(losses, **options)
        self.late -= 1
        if self.late < 0:
            with torch.no_grad():
                for leaf in leaves(losses):
                    leaf.mul_(0.999)


class TrainingLonger(eq.Equal):
    """Descends nine times before the optimizer does, past autograd's counter of changes."""

    def backward(self, losses, **options):
        found = leaves(losses)
        for _ in range(9):
            total = torch.stack(tuple(losses.values())).sum()
            for leaf, slope in zip(
                found, torch.autograd.grad(total, found, retain_graph=True), strict=True
            ):
                leaf.data -= 1e-4 * slope
        super().backward(losses, **options)


class Late(Decaying):
    """Does as asked in the first step, which is the one that is tried beforehand."""

    late = 1


@pytest.fixture
def plant(monkeypatch):
    def planted(kind):
        monkeypatch.setitem(registry._BALANCERS, kind.__name__.lower(), kind)
        return Method(kind.__name__.lower())

    return planted


@pytest.mark.parametrize("kind", [Decaying, TrainingLonger])
def test_a_method_that_moves_the_model_in_backward_is_refused_beforehand(kind, plant, tmp_path):
    request = ["compare", "tests.benchmarks.small:problem", "--balancers"]
    request += [f"equal,{plant(kind).label}", "--seeds", "2", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, request)
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "changed '0.weight' of the model before its optimizer's step" in said
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_a_method_that_moves_the_model_later_has_failed(plant):
    run = train(problem(), plant(Late), OPTIONS, 0, lambda _step, _metric: None)
    assert run.failure is not None
    assert run.failure.startswith("step 2: RuntimeError: The method changed '0.weight'")
    assert run.metric is None


@pytest.mark.parametrize("measure", ["evaluate", "validate"])
def test_a_method_cannot_measure_what_it_is_judged_by(measure):
    trial = start_trial(problem(), 0)
    trial = withheld(dataclasses.replace(trial, validate=trial.evaluate))
    honest = build_trainer(Method("equal"), problem(), trial, 1e-2)

    @dataclasses.dataclass
    class Choosing:
        """Would keep a step only where the metric gains."""

        optimizer: torch.optim.Optimizer

        def step(self, losses):
            getattr(trial, measure)()
            honest.step(losses)

        def look_back(self, again):
            honest.look_back(again)

        def weights(self):
            return honest.weights()

    with pytest.raises(MethodError, match="only the comparison may measure"):
        take_step(trial, Choosing(honest.optimizer), trial.data)


def test_no_validation_data_stay_none():
    assert withheld(start_trial(problem(), 0)).validate is None


@pytest.mark.parametrize("method", methods_for(problem().start(0)), ids=lambda method: method.label)
def test_every_method_leaves_the_model_to_its_optimizer(method):
    trial = withheld(start_trial(problem(), 0))
    trainer = build_trainer(method, problem(), trial, 1e-2)
    for _ in range(4):
        take_step(trial, Watched(trainer, trial), trial.data)
