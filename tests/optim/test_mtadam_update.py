"""The three forms of MTAdam's update against each other; against the paper: see `test_mtadam`."""

from __future__ import annotations

import pytest
import torch

from equipoise.optim.compiled import Compiler
from equipoise.optim.mtadam_update import (
    FusedMTAdam,
    MultiTensorMTAdam,
    SingleTensorMTAdam,
    bucket_of,
)
from tests.optim.reference import OneParameter

LOSSES = 3
SHAPES = [(3, 5), (4,), ()]
OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"amsgrad": True, "maximize": True},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "amsgrad": True},
        {"betas": (0.0, 0.5, 0.9), "eps": 1e-3},
    ],
    ids=str,
)
WHERE = pytest.mark.parametrize("keeps", [None, (True, False, True)], ids=["host", "device"])


def group(options):
    return {
        "lr": 0.1,
        "betas": (0.9, 0.99, 0.9),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "amsgrad": False,
        "maximize": False,
        "decoupled_weight_decay": False,
        **options,
    }


class Uncompiled(Compiler):
    """Runs what would be compiled as it is written."""

    def suits(self, tensor):
        return True

    def run(self, function, *arguments, **flags):
        function(*arguments, **flags)


def buckets(kind, parameters, options, on_device):
    """One for each parameter; packed, one for all."""
    members = [parameters] if kind == "packed" else [[p] for p in parameters]
    made = []
    for some in members:
        compiler = Uncompiled(None) if kind is FusedMTAdam else Compiler(False)
        bucket = bucket_of(
            some,
            group(options),
            [{} for _ in some],
            LOSSES,
            on_device=on_device,
            packed=kind is not SingleTensorMTAdam,
            compiler=compiler,
        )
        assert type(bucket) is (MultiTensorMTAdam if kind == "packed" else kind)
        made.append(bucket)
    return made


def trained(kind, options, keeps, steps=3):
    """Parameters and state after steps in which the third loss misses the last parameter."""
    generator = torch.Generator().manual_seed(0)

    def random(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    parameters = [random(shape).requires_grad_() for shape in SHAPES]
    made = buckets(kind, parameters, options, on_device=keeps is not None)
    for step in range(steps):
        keep = None if keeps is None else torch.tensor(keeps[step])
        gradients = [[random(shape) for shape in SHAPES] for _ in range(LOSSES)]
        gradients[2][-1] = None
        scales = [random((len(SHAPES),)).abs() for _ in range(LOSSES)]
        with torch.no_grad():
            advance(made, parameters, gradients, scales, keep)
    return parameters, [
        value for bucket in made for views in bucket._views for value in views.values()
    ]


def advance(made, parameters, gradients, scales, keep):
    places = {id(p): place for place, p in enumerate(parameters)}
    for bucket in made:
        own = [places[id(p)] for p in bucket.parameters]
        bucket.forget()
        for loss in range(LOSSES):
            whole = bucket.gather([gradients[loss][place] for place in own])
            bucket.fold(loss, whole, scales[loss][own], keep)
        bucket.publish(None)
        if keep is not None and not keep:
            for p in bucket.parameters:
                p.grad.fill_(torch.nan)
        bucket.move(LOSSES if keep is None else LOSSES * keep, keep)


@OPTIONS
@WHERE
@pytest.mark.parametrize("kind", [MultiTensorMTAdam, FusedMTAdam, "packed"])
def test_every_form_gives_what_the_readable_one_gives(kind, options, keeps):
    expected, expected_state = trained(SingleTensorMTAdam, options, keeps)
    found, state = trained(kind, options, keeps)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(state, expected_state, rtol=1e-12, atol=1e-14)


@OPTIONS
@pytest.mark.parametrize("kind", [SingleTensorMTAdam, MultiTensorMTAdam, FusedMTAdam, "packed"])
def test_where_a_step_is_not_to_happen_nothing_changes(kind, options):
    before = trained(kind, options, (True, False), steps=1)
    after = trained(kind, options, (True, False), steps=2)
    assert all(map(torch.equal, before[0], after[0]))
    assert all(map(torch.equal, before[1], after[1]))


@pytest.mark.parametrize("kind", [SingleTensorMTAdam, MultiTensorMTAdam, FusedMTAdam])
@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"weight_decay": 0.1}], ids=str)
def test_every_form_is_algorithm_1(kind, options):
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    parameter = value.clone().requires_grad_()
    slow = OneParameter(
        value, LOSSES, lr=0.1, betas=(0.9, 0.99, 0.9), ranks=(1.0,) * LOSSES, **options
    )
    (bucket,) = buckets(kind, [parameter], options, on_device=False)
    for _ in range(4):
        gradients = {i: torch.randn(4, 2, generator=generator).double() for i in range(LOSSES)}
        slow.step(gradients)
        anchor = slow.norms[0]
        scales = [
            torch.tensor([anchor / slow.norms[i]], dtype=torch.float64) for i in range(LOSSES)
        ]
        with torch.no_grad():
            advance([bucket], [parameter], [[gradients[i]] for i in range(LOSSES)], scales, None)
        torch.testing.assert_close(parameter.detach(), slow.value, rtol=1e-10, atol=1e-12)
