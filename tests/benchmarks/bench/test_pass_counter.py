from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.bench.cases import REFERENCES, Knobs, method_cases
from equipoise.benchmarks.bench.contender import ModelContender
from equipoise.benchmarks.bench.models import MODELS
from equipoise.benchmarks.bench.pass_counter import PassCounter
from equipoise.benchmarks.methods import Method
from tests.benchmarks.bench.tiny import WITH_HEADS, tiny

T = 4
PLAIN, BARE = REFERENCES
GRADNORM = Method("gradnorm")


def one(method: Method, **knobs: object):
    (case,) = method_cases([method], Knobs(**knobs))
    return case


@pytest.mark.parametrize(
    ("case", "steps", "through", "entering"),
    [
        (PLAIN, 3, 3, 3),
        (BARE, 1, T, T),
        (one(Method("softadapt")), 2, 2, 2),
        (one(Method("mtadam")), 1, T, T),
        # T passes end at the last shared layer, and one applies.
        (one(GRADNORM), 1, 1, T + 1),
        (one(GRADNORM, wrt="shared"), 1, T, T),  # so small that rows are kept
        (one(GRADNORM, wrt="shared", rows=2), 1, T + 1, T + 1),
        (one(GRADNORM, every=(5,)), 5, 5, T + 5),
    ],
    ids=lambda value: getattr(value, "label", None),
)
def test_passes_are_those_that_a_step_is_known_to_take(case, steps, through, entering):
    contender = ModelContender(tiny(T), case.build)
    with PassCounter(contender.model.trunk) as counter:
        contender.steps(steps)
    assert (counter.through, counter.entering) == (through, entering)


def test_passes_outside_the_context_are_not_counted():
    contender = ModelContender(tiny(T), PLAIN.build)
    with PassCounter(contender.model.trunk) as counter:
        contender.steps(1)
    contender.steps(2)
    assert (counter.through, counter.entering) == (1, 1)


@pytest.mark.parametrize("name", WITH_HEADS)
def test_every_model_counts_at_both_ends_of_its_trunk(name):
    torch.manual_seed(0)
    contender = ModelContender(MODELS[name](2), BARE.build)
    with PassCounter(contender.model.trunk) as counter:
        contender.steps(1)
    assert (counter.through, counter.entering) == (2, 2)
