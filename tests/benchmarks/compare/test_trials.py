"""What a trial may state besides model, tensors and losses."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from equipoise.benchmarks import DELTA_M, Metric
from equipoise.benchmarks.compare.checking import check
from equipoise.benchmarks.compare.comparison import Comparison
from equipoise.benchmarks.compare.fingerprint import take_fingerprint
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.run import DIVERGED, Run
from equipoise.benchmarks.compare.step_times import measure_prices
from equipoise.benchmarks.compare.training import start_trial, train
from equipoise.benchmarks.diagnose.problem import diagnose_problem
from equipoise.benchmarks.methods import Method, methods_for, parse_methods
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.compare.conftest import OPTIONS
from tests.benchmarks.small import problem

EQUAL = Method("equal")


def quiet(step: int, metric: float) -> None:
    """Nobody watches."""


def with_trial(change, **of_problem):
    """The small problem, with what `change` makes of its trial."""

    def start(seed):
        trial = problem().start(seed)
        return dataclasses.replace(trial, **change(trial))

    return dataclasses.replace(problem(), start=start, **of_problem)


def gan():
    """A critic that the problem trains itself, once more after each update of the method."""
    made = []

    def start(seed):
        trial = problem().start(seed)
        critic = nn.Linear(2, 1)
        made.append((trial.model, critic, []))
        optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)

        def compute_losses(x):
            y = trial.model(x)
            return {"near": y.square().mean(), "far": critic(y).square().mean()}

        def step(update, x):
            losses = compute_losses(x)
            update(losses)
            made[-1][2].append(len(x))
            optimizer.zero_grad()
            (critic(trial.model(x).detach()) - 1).square().mean().backward()
            optimizer.step()
            return losses

        return dataclasses.replace(
            trial, compute_losses=compute_losses, step=step, right_weights=None
        )

    return dataclasses.replace(problem(), start=start), made


@pytest.mark.parametrize("method", methods_for(gan()[0].start(0)), ids=lambda method: method.label)
def test_every_method_trains_inside_a_step_of_the_problems_own(method):
    found, made = gan()
    run = train(found, method, OPTIONS, 0, quiet)
    assert run.failure is None
    model, critic, sizes = made[-1]
    fresh_model, fresh_critic, _ = start_trial(found, 0) and made[-1]
    assert sizes == [8] * 6
    for trained, fresh in ((model, fresh_model), (critic, fresh_critic)):
        pairs = zip(trained.parameters(), fresh.parameters(), strict=True)
        assert not all(torch.equal(*pair) for pair in pairs)


def test_a_step_of_its_own_that_only_updates_is_the_ordinary_step():
    def step_of(trial):
        def step(update, x):
            losses = trial.compute_losses(x)
            update(losses)
            return losses

        return {"step": step}

    own = train(with_trial(step_of), EQUAL, OPTIONS, 0, quiet)
    ordinary = train(problem(), EQUAL, OPTIONS, 0, quiet)
    assert dataclasses.replace(own, seconds=0.0) == dataclasses.replace(ordinary, seconds=0.0)


def test_plain_descent_steps_along_the_gradient():
    moved = []

    def change(trial):
        before = [p.detach().clone() for p in trial.model.parameters()]
        losses = sum(trial.compute_losses(*trial.data).values())
        gradients = torch.autograd.grad(losses, list(trial.model.parameters()))

        def finish(_weights):
            for p, start, gradient in zip(trial.model.parameters(), before, gradients, strict=True):
                torch.testing.assert_close(p.detach(), start - 1e-3 * gradient)
                moved.append(not torch.equal(p, start))

        return {"optimizer": torch.optim.SGD, "finish": finish}

    train(with_trial(change), EQUAL, TrainingOptions(None, 24, 1e-3, steps=1), 0, quiet)
    assert moved == [True] * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [("fixed:weights=2/0.5", {"near": 2.0, "far": 0.5}), ("autobalance", {"near": 1, "far": 1})],
)
def test_finish_is_called_once_with_the_last_weights_before_the_last_measurement(text, expected):
    seen = []

    def change(trial):
        def finish(weights):
            seen.append(dict(weights))
            nn.init.zeros_(trial.model[2].weight)
            nn.init.zeros_(trial.model[2].bias)

        return {"finish": finish}

    (method,) = parse_methods(text)
    run = train(with_trial(change), method, OPTIONS, 0, quiet)
    assert seen == [expected]
    (x,) = problem().start(0).data
    assert run.metric == pytest.approx(float(x[:, :2].square().mean()))


def test_what_finish_changes_is_measured_as_one_step_more():
    def change(trial):
        return {"finish": lambda _weights: nn.init.zeros_(trial.model[2].weight)}

    with_end = train(with_trial(change), EQUAL, OPTIONS, 0, quiet)
    without = train(problem(), EQUAL, OPTIONS, 0, quiet)
    assert with_end.metric_steps == [*without.metric_steps, without.metric_steps[-1] + 1]
    assert with_end.metric_curve[:-1] == without.metric_curve
    assert with_end.metric != without.metric


def test_a_run_that_fails_before_its_end_is_measured_at_the_same_steps():
    def change(trial):
        def compute_losses(*batch):
            losses = trial.compute_losses(*batch)
            return {name: loss * torch.inf for name, loss in losses.items()}

        return {"compute_losses": compute_losses, "finish": lambda _weights: None}

    sound = train(with_trial(lambda _: {"finish": lambda _weights: None}), EQUAL, OPTIONS, 0, quiet)
    failed = train(with_trial(change), EQUAL, OPTIONS, 0, quiet)
    assert failed.failed
    assert failed.metric_steps == sound.metric_steps


def test_evaluation_and_validation_run_in_evaluation_mode_and_leave_no_trace():
    def change(trial):
        model = nn.Sequential(*trial.model, nn.Dropout(0.5))
        model[1].eval()  # one module stays in this mode throughout

        def evaluate():
            assert not torch.is_grad_enabled()
            assert not any(module.training for module in model.modules())
            return float(torch.rand(()))

        def compute_losses(x):
            assert [module.training for module in model] == [True, False, True, True]
            errors = (model(x) - x[:, :2]).square().mean(dim=0)
            return {"near": errors[0], "far": errors[1]}

        return {
            "model": model,
            "evaluate": evaluate,
            "validate": evaluate,
            "kpis": lambda: {"near": evaluate() or 0.5, "far": 0.5},
            "compute_losses": compute_losses,
        }

    found = with_trial(change)
    for name in ("equal", "dynamictaskprioritization"):
        assert train(found, Method(name), OPTIONS, 0, quiet).failure is None
    rarely, often = (
        train(found, EQUAL, TrainingOptions(epochs, 8, 1e-2), 0, quiet).trajectory.losses["near"]
        for epochs in (2, 20)
    )
    assert rarely == often[:6]  # though twenty epochs are measured at other steps


def several():
    def change(trial):
        def measured(factor):
            error = trial.evaluate()
            return {"error": factor * error, "score": 1 / (1 + error)}

        return {"evaluate": lambda: measured(1), "validate": lambda: measured(2)}

    metrics = (Metric("error", False, 0.5), Metric("score", True, 0.5))
    return with_trial(change, metric=DELTA_M, higher_is_better=True, metrics=metrics)


def test_a_run_holds_every_metric_and_the_validation_and_is_read_back():
    run = train(several(), EQUAL, OPTIONS, 0, quiet)
    plain = train(problem(), EQUAL, OPTIONS, 0, quiet)
    assert run.metrics["error"] == plain.metric_curve
    assert run.metric == pytest.approx(
        50 * (1 - run.metrics["error"][-1] / 0.5 + run.metrics["score"][-1] / 0.5 - 1)
    )
    assert run.validation == run.validation_curve[-1] < run.metric
    assert len(run.validation_curve) == len(run.metric_steps)
    assert Run.from_line(run.to_line()) == run
    assert (plain.validation, plain.metrics) == (None, {})


def test_a_run_that_diverges_has_no_values_of_any_metric_from_there_on():
    def change(trial):
        steps = iter(range(100))

        def compute_losses(x):
            factor = float("nan") if next(steps) == 3 else 1.0
            return {name: factor * loss for name, loss in trial.compute_losses(x).items()}

        return {"compute_losses": compute_losses, "validate": trial.evaluate}

    found = with_trial(change, metrics=(Metric("error", False),))
    run = train(found, EQUAL, OPTIONS, 0, quiet)
    assert run.failure == DIVERGED
    assert run.metrics["error"][-1] is None is run.validation
    assert run.metrics["error"][0] is not None
    stopped = train(found, Method("gradnorm", {"nonfinite": "raise"}), OPTIONS, 0, quiet)
    assert stopped.failure.startswith("step 4: ValueError")
    assert [len(stopped.validation_curve), len(stopped.metrics["error"])] == [7, 7]


def test_results_of_versions_with_one_metric_are_read(tmp_path, runs):
    line = json.loads(runs[0].to_line())
    del line["metrics"], line["validation_curve"]
    del line["problem"]["metrics"], line["options"]["steps"]
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    assert Results(tmp_path).read() == [runs[0]]


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (lambda: DataLoader(TensorDataset(torch.rand(24, 3)), batch_size=4, shuffle=True), None),
        (lambda: lambda size: (torch.rand(size, 3),), 4),
    ],
    ids=["loader", "drawn"],
)
def test_a_problem_without_tensors_is_compared_timed_and_diagnosed_as_any(tmp_path, data, size):
    found = with_trial(lambda _trial: {"data": data()}, epochs=None, steps=4, batch_size=size)
    options = TrainingOptions(None, size, 1e-2, steps=4)
    methods = parse_methods("equal,mtadam")
    comparison = Comparison(found, methods, (0,), options, tmp_path)
    assert check(comparison) == 4
    assert take_fingerprint(found, size) == take_fingerprint(found, size)
    assert set(measure_prices(found, methods, options, 0).ratios) == {"equal", "mtadam"}
    assert diagnose_problem(found, options, 0, 3).verdict
    one, two = (train(found, EQUAL, options, 0, quiet) for _ in range(2))
    assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(two, seconds=0.0)
    assert len(one.trajectory.steps) == 4


def test_a_method_that_cannot_train_is_refused_before_anything_starts(tmp_path):
    found = with_trial(
        lambda trial: {
            "compute_losses": lambda x: {"near": trial.compute_losses(x)["near"] * float("nan")}
        }
    )
    methods = parse_methods("gradnorm:nonfinite=raise")
    with pytest.raises(RequestError, match="cannot train small: ValueError"):
        check(Comparison(found, methods, (0,), OPTIONS, tmp_path))
