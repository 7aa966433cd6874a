from __future__ import annotations

from dataclasses import replace

import pytest
from scripts.evidence.claim import Claim, Expected
from scripts.evidence.findings import findings_of, read_findings, write_findings

from equipoise.benchmarks.compare.statistics import standings
from tests.benchmarks.compare.conftest import train_some

EQUAL = "equal"


@pytest.fixture(scope="module")
def runs():
    return train_some("equal,uncertainty", seeds=5)


def claim(*expected: Expected) -> Claim:
    return Claim("one", "One", "So.", "Us.", {"problem": "small"}, expected)


def judged(runs, gap: float, relation: str, wobble: float = 0.01):
    """Uncertainty reaches the plain sum's metric and so much more, give or take."""
    plain = {run.seed: run.metric for run in runs if run.balancer == EQUAL}
    changed = [
        run
        if run.balancer == EQUAL
        else replace(run, metric=plain[run.seed] + gap + wobble * (-1) ** run.seed)
        for run in runs
    ]
    expected = Expected("uncertainty", relation, EQUAL)
    return findings_of(claim(expected), standings(changed, {})).judged[0]


@pytest.mark.parametrize("relation", ["better than", "no worse than", "level with", "worse than"])
@pytest.mark.parametrize("gap", [-1.0, 0.0, 1.0])
def test_an_expectation_holds_where_the_paired_differences_say_so(runs, relation, gap) -> None:
    higher = runs[0].problem.higher_is_better
    better = gap != 0 and (gap > 0) == higher
    kind = "alike" if gap == 0 else "better" if better else "worse"
    holding = {
        "better than": {"better"},
        "no worse than": {"better", "alike"},
        "level with": {"alike"},
        "worse than": {"worse"},
    }
    found = judged(runs, gap, relation)
    assert found.found == kind
    assert found.holds == (kind in holding[relation])


def test_a_method_that_failed_on_a_seed_is_worse_whatever_it_reached(runs) -> None:
    failing = [
        replace(run, failure="diverged", metric=None, metric_curve=[*run.metric_curve[:-1], None])
        if (run.balancer, run.seed) == ("uncertainty", 3)
        else run
        for run in runs
    ]
    expected = Expected("uncertainty", "no worse than", EQUAL)
    found = findings_of(claim(expected), standings(failing, {}))
    assert not found.judged[0].holds
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
