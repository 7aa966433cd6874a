from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from equipoise.benchmarks.baseline import plain_sum
from equipoise.benchmarks.bench.contender import ModelContender
from equipoise.benchmarks.bench.pass_counter import PassCounter
from equipoise.benchmarks.bench.peers import peer_cases
from tests.benchmarks.bench.tiny import tiny

T = 3
CASES, MISSING = peer_cases(["config", "gradnorm", "imtlg", "mgda", "pcgrad", "upgrad"])

NONE = pytest.param(
    None, marks=pytest.mark.skip("no peer library here: `make bench` installs them")
)
with_each_peer = pytest.mark.parametrize(
    "case",
    CASES or [NONE],
    ids=[f"{case.label} {case.variant}" for case in CASES] or ["none"],
)


def test_a_library_that_is_not_installed_is_named_with_what_to_install():
    absent = [
        package
        for package in ("torchjd", "gradnorm-pytorch", "conflictfree")
        if find_spec(package.replace("-", "_")) is None
    ]
    assert [f"{name} is not installed: pip install {name}" for name in absent] == MISSING


def test_no_peer_is_measured_that_has_none_of_the_methods():
    assert peer_cases(["softadapt"]) == ([], [])


@with_each_peer
def test_peers_leave_a_gradient_on_the_whole_model(case):
    contender = ModelContender(tiny(T), case.build)
    with PassCounter(contender.model.trunk) as counter:
        contender.steps(1)
    assert all(parameter.grad is not None for parameter in contender.model.parameters())
    expected = {"batched": 1, "": 2 if case.method == "gradnorm" else T}
    assert counter.through == expected.get(case.variant, T)


@with_each_peer
def test_peers_work_on_the_gradients_of_the_same_losses(case):
    ours, theirs = tiny(T), tiny(T)
    plain_sum(ours().losses)
    ModelContender(theirs, case.build).steps(1)
    mine, other = ours.last_shared_weight.grad, theirs.last_shared_weight.grad
    assert torch.nn.functional.cosine_similarity(mine.ravel(), other.ravel(), dim=0) > 0
