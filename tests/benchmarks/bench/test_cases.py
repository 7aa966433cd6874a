from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.bench.cases import (
    Knobs,
    bare_passes,
    method_cases,
    plain_sum_and_adam,
)
from equipoise.benchmarks.bench.contender import ModelContender
from equipoise.benchmarks.bench.models import MODELS
from equipoise.benchmarks.bench.pass_counter import PassCounter
from equipoise.benchmarks.bench.request import parse_priced_methods
from equipoise.benchmarks.methods import MULTI_TERM_OPTIMIZERS, Method
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.bench.tiny import WITH_HEADS, tiny


@pytest.mark.parametrize(
    "case", method_cases(parse_priced_methods("all"), Knobs()), ids=lambda case: case.label
)
def test_every_method_takes_steps_on_the_model(case):
    contender = ModelContender(tiny(3), case.build)
    contender.steps(2)
    assert all(parameter.grad is not None for parameter in contender.model.parameters())


@pytest.mark.parametrize("name", WITH_HEADS)
def test_every_model_gives_one_loss_for_each_head_and_a_shared_representation(name):
    model = MODELS[name](3)
    shared, losses = model()
    assert len(losses) == 3
    assert shared.shape[0] == len(model.inputs)
    assert model.last_shared_weight.requires_grad


def test_plain_sum_and_adam_moves_every_parameter():
    model = tiny(3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    ModelContender(model, plain_sum_and_adam).steps(1)
    assert not any(map(torch.equal, before, model.parameters()))


def test_bare_passes_leave_no_gradient():
    model = tiny(3)
    ModelContender(model, bare_passes).steps(1)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_makes_rows_of_methods_that_look_at_gradients_alone():
    methods = [Method("equal"), Method("gradnorm"), Method("gradnorm", {"every": 3})]
    cases = method_cases(methods, Knobs(every=(1, 10)))
    assert [(case.label, case.every) for case in cases] == [
        ("equal", 1),
        ("gradnorm", 1),
        ("gradnorm:every=10", 10),
        ("gradnorm:every=3", 3),
    ]


@pytest.mark.parametrize("name", MULTI_TERM_OPTIMIZERS)
def test_a_step_of_an_optimizer_is_compared_with_one_of_adam_and_moves_every_parameter(name):
    (case,) = method_cases([Method(name, {"lr": 0.1})], Knobs(every=(1, 10)))
    assert (case.updates, case.every) == (True, 1)
    model = tiny(3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    ModelContender(model, case.build).steps(1)
    assert not any(map(torch.equal, before, model.parameters()))


def test_where_gradients_are_watched_stands_in_the_label():
    (case,) = method_cases([Method("gradnorm")], Knobs(wrt="representation", rows=2))
    assert case.label == "gradnorm:wrt=representation:rows=2"


def test_where_a_method_watches_itself_goes_before_what_is_set_for_all():
    (case,) = method_cases([Method("gradnorm", {"wrt": "shared"})], Knobs(wrt="representation"))
    assert case.label == "gradnorm:wrt=shared"
    contender = ModelContender(tiny(3), case.build)
    with PassCounter(contender.model.trunk) as counter:
        contender.steps(1)
    assert counter.through == 3


def test_a_single_row_is_refused():
    with pytest.raises(RequestError, match="--rows is at least 2"):
        Knobs(rows=1)
