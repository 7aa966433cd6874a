from __future__ import annotations

import pytest
import torch

from equipoise.benchmarks.bench import contest as module
from equipoise.benchmarks.bench.cases import Knobs, method_cases
from equipoise.benchmarks.bench.contest import Contest, run_bench
from equipoise.benchmarks.bench.prices import Footprint
from equipoise.benchmarks.bench.request import PriceRequest
from equipoise.benchmarks.methods import Method

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench():
    request = PriceRequest(
        methods=[Method("equal"), Method("gradnorm"), Method("fixed", {"weights": [1.0]})],
        losses=(2, 3),
        models=("conv",),
        rounds=2,
    )
    return list(run_bench(request, str))


def test_results_grow_by_one_setting_at_a_time(bench):
    settings = [{(price.model, price.losses) for price in found.prices} for found in bench]
    assert settings == [{("conv", 2)}, {("conv", 2), ("conv", 3)}]


def test_every_row_has_time_memory_and_passes(bench):
    for price in bench[-1].prices:
        assert 0 < price.low <= price.ratio <= price.high
        assert price.milliseconds > 0
        assert price.memory > 1
        assert 1 <= price.through <= price.entering


def test_a_method_that_cannot_run_costs_only_its_own_row(bench):
    labels = [price.label for price in bench[0].prices]
    assert labels == ["plain sum", "T passes + Gramian", "equal", "gradnorm"]
    assert len(bench[0].skipped) == 1
    assert "fixed:weights=1 is left out" in bench[0].skipped[0]


def test_memory_counts_what_a_method_keeps_for_later_steps():
    (optimizer,) = method_cases([Method("mtadam")], Knobs())
    contest = Contest("mlp", 3, CPU)
    # T + 1 state tensors and two gradients: one on its way in, one in `.grad`.
    assert contest.footprint(optimizer).memory > 3 + 1 + 2


def test_groups_hold_every_case_once_and_no_more_memory_than_allowed():
    cases = method_cases([Method("gradnorm")], Knobs(every=tuple(range(1, 8))))
    sizes = [1, 1, 1, 5, 2, 1, 2]
    unit = module._GROUP_BYTES // 4
    footprints = {
        case: Footprint(memory=1.0, bytes_held=size * unit, through=1.0, entering=1.0)
        for case, size in zip(cases, sizes, strict=True)
    }
    groups = list(module._groups(footprints))
    assert [case for group in groups for case in group] == cases
    held = [sum(footprints[case].bytes_held for case in group) for group in groups]
    assert all(
        bytes_held <= 4 * unit or len(group) == 1
        for bytes_held, group in zip(held, groups, strict=True)
    )
