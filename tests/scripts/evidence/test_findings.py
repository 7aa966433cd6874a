from __future__ import annotations

from dataclasses import replace

import pytest
from scripts.evidence.claim import Claim, Expected
from scripts.evidence.findings import findings_of, read_findings, write_findings
from scripts.evidence.judging import FAILS, HOLDS, NOT_SHOWN
from scripts.evidence.page import results_table

from equipoise.benchmarks.compare.statistics import standings
from tests.benchmarks.compare.conftest import train_some

EQUAL = "equal"


@pytest.fixture(scope="module")
def runs():
    return train_some("equal,uncertainty", seeds=5)


def claim(*expected: Expected) -> Claim:
    return Claim("one", "One", "So.", "Us.", {"problem": "small"}, expected)


def shifted(runs, gap: float, wobble: float = 0.0):
    """Uncertainty reaches the plain sum's metric and so much more, give or take."""
    plain = {run.seed: run.metric for run in runs if run.balancer == EQUAL}
    return [
        run
        if run.balancer == EQUAL
        else replace(run, metric=plain[run.seed] + gap + wobble * (-1) ** run.seed)
        for run in runs
    ]


def renamed(runs, label: str):
    """The runs of uncertainty under another label."""
    return [replace(run, balancer=label) for run in runs if run.balancer != EQUAL]


def judged(runs, gap: float, relation: str, wobble: float = 0.01, margin: float | None = None):
    expected = Expected("uncertainty", relation, EQUAL)
    stated = replace(claim(expected), margin=margin)
    return findings_of(stated, standings(shifted(runs, gap, wobble), {})).judged[0]


OUTCOMES = {
    "better than": {"better": HOLDS, "alike": NOT_SHOWN, "worse": FAILS},
    "worse than": {"better": FAILS, "alike": NOT_SHOWN, "worse": HOLDS},
    "no worse than": {"better": HOLDS, "alike": HOLDS, "worse": FAILS},
    "level with": {"better": FAILS, "alike": HOLDS, "worse": FAILS},
}
"""With a margin that is wider than the wobble of a pair that is alike."""


@pytest.mark.parametrize("relation", OUTCOMES)
@pytest.mark.parametrize("gap", [-1.0, 0.0, 1.0])
def test_an_expectation_holds_where_the_paired_differences_say_so(runs, relation, gap) -> None:
    higher = runs[0].problem.higher_is_better
    better = gap != 0 and (gap > 0) == higher
    kind = "alike" if gap == 0 else "better" if better else "worse"
    found = judged(runs, gap, relation, margin=0.1)
    assert found.found == kind
    assert found.outcome == OUTCOMES[relation][kind]


@pytest.mark.parametrize("relation", ["no worse than", "level with"])
def test_that_a_test_finds_no_difference_shows_no_likeness(runs, relation) -> None:
    found = judged(runs, 0.0, relation, wobble=1.0, margin=0.1)
    assert (found.found, found.outcome) == ("alike", NOT_SHOWN)


def test_a_difference_inside_the_margin_is_none_however_clear(runs) -> None:
    sign = 1 if runs[0].problem.higher_is_better else -1
    found = judged(runs, -0.05 * sign, "no worse than", wobble=0.001, margin=0.1)
    assert (found.found, found.outcome) == ("worse", HOLDS)


def test_without_a_margin_no_worse_is_no_less_than_nine_tenths_of_the_gain(runs) -> None:
    sign = 1 if runs[0].problem.higher_is_better else -1
    expected = Expected("uncertainty", "no worse than", "other")
    for kept, outcome in ((0.95, HOLDS), (0.8, FAILS)):
        rows = [*shifted(runs, kept * sign), *renamed(shifted(runs, 1.0 * sign), "other")]
        found = findings_of(claim(expected), standings(rows, {})).judged[0]
        assert (found.margin, found.outcome) == ("0.1", outcome)


def test_a_method_that_failed_on_a_seed_is_worse_whatever_it_reached(runs) -> None:
    failing = [
        replace(run, failure="diverged", metric=None, metric_curve=[*run.metric_curve[:-1], None])
        if (run.balancer, run.seed) == ("uncertainty", 3)
        else run
        for run in runs
    ]
    expected = Expected("uncertainty", "no worse than", EQUAL)
    found = findings_of(claim(expected), standings(failing, {}))
    assert found.judged[0].outcome == FAILS
    assert "1 of 5 diverged" in next(r.result for r in found.rows if r.label == "uncertainty")
    assert found.verdict == "not reproduced"


def test_a_claim_about_a_row_that_is_not_there_is_refused(runs) -> None:
    with pytest.raises(ValueError, match=r"no row is called \['mgda'\]"):
        findings_of(claim(Expected("mgda", "better than", EQUAL)), standings(runs, {}))


def test_findings_are_kept_as_they_are(runs, tmp_path) -> None:
    expected = Expected("uncertainty", "level with", EQUAL)
    found = findings_of(claim(expected), standings(runs, {"uncertainty": 1.2345}))
    write_findings(tmp_path / "one.json", found)
    assert read_findings(tmp_path / "one.json") == found
    assert {row.label: row.time for row in found.rows} == {"equal": None, "uncertainty": 1.23}


def test_plans_beside_the_first_stand_in_one_table_under_labels_of_their_own(runs) -> None:
    stated = replace(
        claim(Expected("uncertainty (late)", "better than", "uncertainty")),
        beside={"late": {"balancers": "uncertainty", "optimizer": "adam:beta2=0.9"}},
        plan={"problem": "small", "goal": 0.5},
    )
    first, late = standings(runs, {"uncertainty": 2.0}), standings(shifted(runs, 1.0), {})
    late = [row for row in late if row.balancer != EQUAL]
    found = findings_of(stated, first, {"late": late})
    assert {row.label for row in found.rows} == {EQUAL, "uncertainty", "uncertainty (late)"}
    assert "(late) were trained alike but for this: optimizer adam:beta2=0.9." in found.protocol
    assert found.judged[0].expected == "uncertainty (late) better than uncertainty"
    views = {row.label: row.view for row in found.rows}
    assert views["uncertainty"]
    assert not views["uncertainty (late)"]  # it has no price
    assert all(row.reached for row in found.rows)
    assert "| reached 0.5 |" in results_table(found)
