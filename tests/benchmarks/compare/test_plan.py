"""A comparison is a file: what was asked for can be read again, by anyone."""

from __future__ import annotations

import dataclasses

import pytest

from equipoise.benchmarks.compare.budget import Budget, parse_budget
from equipoise.benchmarks.compare.outline import outline, stated
from equipoise.benchmarks.compare.plan import PLAN_NAME, Plan, read_plan, write_plan
from equipoise.benchmarks.compare.static_weights import static_weights
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.small import problem

FULL = Plan(
    problem="small",
    balancers="equal,gradnorm:alpha=0|1.5",
    seeds="7,",
    budget="0.5s",
    batch_size=8,
    lr="3e-4,1e-3",
    optimizer="muon",
    static=4,
    retrain=True,
    tuning_seeds=1,
    goal=0.25,
)


@pytest.mark.parametrize("plan", [Plan(), FULL, dataclasses.replace(FULL, seeds="3,8")])
def test_a_plan_that_was_saved_reads_back(tmp_path, plan):
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path / PLAN_NAME) == plan


def test_lists_and_numbers_of_yaml_are_what_stands_on_the_command_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "problem: small\nbalancers: [equal, 'gradnorm:alpha=0|1.5']\nseeds: [7]\n"
        "lr: [3e-4, 0.001]\nbudget: 600steps\nbatch_size: 8\n"
    )
    found = outline(read_plan(path))
    assert [method.label for method in found.methods] == ["equal", "gradnorm:alpha=0|1.5"]
    assert (found.seeds, found.search.rates) == ((7,), (0.0003, 0.001))
    assert (found.options.steps, found.options.epochs) == (600, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "holds no plan"),
        ("seed: 3", "Did you mean 'seeds'"),
        ("epochs: many", "epochs"),
        ("retrain: 1", "retrain"),
        ("a: b: c", "is no YAML"),
    ],
)
def test_a_wrong_plan_is_refused_with_its_file(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RequestError, match=rf"mine\.yaml.*{message}"):
        read_plan(path)


def test_a_saved_plan_does_not_depend_on_the_problems_defaults():
    plan = stated(Plan(problem="small"), problem())
    assert plan == Plan(
        problem="small",
        balancers="equal,right,firstvalue,randomweights,mtadam",
        epochs=2,
        batch_size=8,
        lr="0.01",
    )
    assert stated(plan, dataclasses.replace(problem(), epochs=9, lr=9.0)) == plan


def test_baselines_leave_out_right_weights_that_nobody_knows():
    def start(seed):
        return dataclasses.replace(problem().start(seed), right_weights=None)

    unknown = dataclasses.replace(problem(), start=start)
    asked = stated(Plan(balancers="gradnorm, baselines"), unknown)
    assert asked.balancers == "gradnorm,equal,firstvalue,randomweights"


@pytest.mark.parametrize("text", ["", "600", "0s", "1.5steps", "0steps", "-3s", "6 minutes"])
def test_other_budgets_are_refused_with_what_to_write(text):
    with pytest.raises(RequestError, match="600steps or 30s"):
        parse_budget(text)


def test_budgets_are_steps_or_seconds():
    assert parse_budget("1step") == Budget(steps=1)
    assert parse_budget("0.5 s") == Budget(seconds=0.5)


@pytest.mark.parametrize("budget", ["600steps", "30s"])
@pytest.mark.parametrize("plan", [{"epochs": 3}, {"steps": 3}])
def test_a_budget_beside_another_length_is_refused(plan, budget):
    both = Plan(balancers="equal", lr="0.1", budget=budget, **plan)
    with pytest.raises(RequestError, match="Give one of"):
        outline(both)


def test_static_weights_begin_with_the_plain_sum_and_continue_each_other():
    assert static_weights(3, 1) == [[1.0, 1.0, 1.0]]
    assert static_weights(3, 9)[:4] == static_weights(3, 4)
    for trial in static_weights(3, 9):
        assert trial[0] * trial[1] * trial[2] == pytest.approx(1.0)
    ratios = [first / second for first, second in static_weights(2, 64)]
    assert min(ratios) < 1e-3
    assert max(ratios) > 1e3
