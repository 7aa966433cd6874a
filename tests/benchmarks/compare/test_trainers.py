from __future__ import annotations

import math

import pytest
import torch

import equipoise as eq
from equipoise.benchmarks.compare.trainers import PlainSum, build_trainer
from equipoise.benchmarks.compare.training import start_trial, take_step
from equipoise.benchmarks.methods import Method, methods_for, parse_methods
from equipoise.benchmarks.problems import find_problem
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.small import problem

DIGITS = find_problem("digits")
EVERY_METHOD = methods_for(DIGITS.start(0))
# Its steps are zero until every loss was there once, as Algorithm 1 of its paper has it.
WAITING = "momentumconfig"


def parameters_after(steps, trial, trainer, batch):
    for _ in range(steps):
        trainer.step(trial.compute_losses(*batch))
    return [parameter.detach().clone() for parameter in trial.model.parameters()]


def have_moved(before, after):
    return not all(map(torch.equal, before, after))


# Its losses are masks of one vector, where a method that looks at the representation says so.
@pytest.mark.filterwarnings("ignore:At the representation:UserWarning")
@pytest.mark.parametrize("method", EVERY_METHOD, ids=lambda method: method.label)
def test_every_method_trains_digits_even_where_a_class_is_absent(method):
    trial = start_trial(DIGITS, 0)
    before = [parameter.detach().clone() for parameter in trial.model.parameters()]
    trainer = build_trainer(method, DIGITS, trial, lr=1e-3)
    without_nine = trial.data[1] != 9
    batch = tuple(tensor[without_nine][:40] for tensor in trial.data)
    early = parameters_after(2, trial, trainer, batch)
    assert have_moved(before, early) == (method.name != WAITING)
    complete = parameters_after(1, trial, trainer, tuple(tensor[:100] for tensor in trial.data))
    late = parameters_after(2, trial, trainer, batch)
    assert have_moved(complete, late)
    assert all(parameter.isfinite().all() for parameter in late)
    weights = trainer.weights()
    assert {f"digit_{c}" for c in range(9)} <= set(weights)


def test_equal_weights_train_bit_for_bit_as_the_plain_sum():
    trials = [start_trial(problem(), 0) for _ in range(2)]
    trainers = [
        PlainSum(trials[0], 1e-2),
        build_trainer(Method("equal"), problem(), trials[1], 1e-2),
    ]
    plain, equal = (
        parameters_after(5, trial, trainer, trial.data)
        for trial, trainer in zip(trials, trainers, strict=True)
    )
    assert all(torch.equal(*pair) for pair in zip(plain, equal, strict=True))


def test_right_trains_with_the_problems_own_weights():
    trial = start_trial(problem(), 0)
    trainer = build_trainer(Method("right"), problem(), trial, 1e-2)
    trainer.step(trial.compute_losses(*trial.data))
    assert trainer.weights() == pytest.approx({"near": 1.0, "far": 0.01})


def test_famo_is_shown_the_losses_of_the_same_batch_after_each_step():
    compared, alone = (start_trial(problem(), 0) for _ in range(2))
    trainer = build_trainer(Method("famo"), problem(), compared, 1e-2)
    balancer = eq.FAMO(problem().losses)
    optimizer = torch.optim.Adam(alone.model.parameters(), lr=1e-2)
    for _ in range(5):
        take_step(compared, trainer, compared.data)
        optimizer.zero_grad()
        balancer.backward(alone.compute_losses(*alone.data))
        optimizer.step()
        balancer.observe(alone.compute_losses(*alone.data))
    assert trainer.weights() == pytest.approx(balancer.weights, rel=1e-6)
    assert balancer.logits.abs().min() > 0.05


def test_famo_takes_the_next_batch_where_it_is_asked_to():
    trial = start_trial(problem(), 0)
    trainer = build_trainer(Method("famo", {"after": "next_batch"}), problem(), trial, 1e-2)
    for _ in range(3):
        take_step(trial, trainer, trial.data)
    assert trainer.balancer.logits.abs().min() > 0.01


def test_mtadams_weights_are_the_ratios_of_gradient_norms_to_the_first():
    trial = start_trial(problem(), 0)
    losses = trial.compute_losses(*trial.data)
    names = list(trial.model.parameters())
    norms = {
        name: [
            float(gradient.norm())
            for gradient in torch.autograd.grad(loss, names, retain_graph=True)
        ]
        for name, loss in losses.items()
    }
    ratios = [near / far for near, far in zip(norms["near"], norms["far"], strict=True)]
    trainer = build_trainer(Method("mtadam"), problem(), trial, 1e-2)
    trainer.step(losses)
    assert trainer.weights() == pytest.approx({"near": 1.0, "far": sum(ratios) / len(ratios)})


def test_autobalance_trains_with_the_runs_learning_rate_and_its_own_options():
    trial, expected = (start_trial(problem(), 0) for _ in range(2))
    trainer = build_trainer(Method("autobalance", {"weight_decay": 0.1}), problem(), trial, 1e-2)
    found = parameters_after(3, trial, trainer, trial.data)
    optimizer = eq.AutoBalance(expected.model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.backward(expected.compute_losses(*expected.data))
        optimizer.step()
    assert all(map(torch.equal, found, expected.model.parameters()))


def test_autobalance_has_no_weight_for_a_loss():
    trial = start_trial(problem(), 0)
    trainer = build_trainer(Method("autobalance"), problem(), trial, 1e-2)
    trainer.step(trial.compute_losses(*trial.data))
    weights = trainer.weights()
    assert set(weights) == {"near", "far"}
    assert all(map(math.isnan, weights.values()))


@pytest.mark.parametrize(
    ("problem_name", "text", "message"),
    [
        ("toy_regression", "dynamictaskprioritization", "no key performance index"),
        ("digits", "ntktrace", "ntktrace: .* ntkweights finds its own"),
        ("digits", "gradnorm:lr=-1", "gradnorm:lr=-1: "),
        ("digits", "fixed:weights=1/2", "fixed:weights=1/2: "),
    ],
)
def test_a_method_that_cannot_be_built_is_refused_by_its_label(problem_name, text, message):
    found = find_problem(problem_name)
    (method,) = parse_methods(text)
    with pytest.raises(RequestError, match=message):
        build_trainer(method, found, start_trial(found, 0), lr=1e-3)
