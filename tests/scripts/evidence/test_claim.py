from __future__ import annotations

import pytest
from scripts.evidence.__main__ import PAGES, read_claims
from scripts.evidence.claim import Expected, read_claim

from equipoise.benchmarks.compare.outline import outline, stated
from equipoise.benchmarks.compare.plan import read_plan
from equipoise.benchmarks.compare.step_times import UNPRICED
from equipoise.benchmarks.methods import PLAIN_SUM
from equipoise.benchmarks.problems import find_problem

CLAIMS = read_claims(PAGES)


def written(tmp_path, expected: str):
    path = tmp_path / "one.yaml"
    path.write_text(
        f"title: One\nsays: So.\nsource: Us.\nplan: {{problem: digits}}\nexpected: [{expected}]\n"
    )
    return path


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("a better than b", ("a", "better than", "b")),
        ("a no worse than b", ("a", "no worse than", "b")),
        ("a worse than b", ("a", "worse than", "b")),
        ("a:x=1 (mean weights retrained) level with b", None),
    ],
)
def test_what_is_expected_is_a_row_a_relation_and_a_row(tmp_path, line, parts) -> None:
    (expected,) = read_claim(written(tmp_path, f"'{line}'")).expected
    wanted = parts or ("a:x=1 (mean weights retrained)", "level with", "b")
    assert expected == Expected(*wanted)
    assert str(expected) == line


def test_what_cannot_be_tested_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="one of better than, no worse than"):
        read_claim(written(tmp_path, "a is nice"))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
@pytest.mark.parametrize("small", [False, True], ids=["full", "small"])
def test_the_plan_of_each_claim_has_the_rows_that_it_speaks_of(tmp_path, claim, small) -> None:
    plan = tmp_path / "plan.yaml"
    labels = set()
    for word, written_plan in claim.plans(small=small).items():
        plan.write_text(repr(written_plan))
        asked = read_plan(plan)
        problem = find_problem(asked.problem)
        read = outline(stated(asked, problem))
        rows = {row.label for row in read.rows(problem.losses, UNPRICED)}
        labels |= {f"{label} ({word})" for label in rows} if word else rows
        assert word or PLAIN_SUM in rows
        assert small or len(read.seeds) >= 10
    assert {label for each in claim.expected for label in (each.row, each.other)} <= labels


def test_plans_beside_the_first_differ_in_what_they_say(tmp_path) -> None:
    path = written(tmp_path, "a better than b")
    path.write_text(path.read_text() + "beside: {two: {seeds: 3}}\nsmall: {steps: 1}\n")
    claim = read_claim(path)
    assert claim.plans(small=False) == {
        "": {"problem": "digits"},
        "two": {"problem": "digits", "seeds": 3},
    }
    assert claim.plans(small=True)["two"] == {"problem": "digits", "seeds": 3, "steps": 1}
