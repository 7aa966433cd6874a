from __future__ import annotations

import re
from dataclasses import replace

import pytest
from scripts.evidence.__main__ import PAGES, read_claims, run, write_pages
from scripts.evidence.findings import read_findings, write_findings
from scripts.evidence.overview import methods_table, overview
from scripts.evidence.page import claim_page

CLAIMS = {claim.name: claim for claim in read_claims(PAGES)}
FOUND = {path.stem: read_findings(path) for path in sorted(PAGES.glob("*.json"))}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_each_page_says_what_its_claim_and_its_findings_say(name) -> None:
    written = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert written == claim_page(CLAIMS[name], FOUND[name])
    assert (PAGES / f"{name}.svg").exists()


def test_the_overview_is_made_of_all_findings() -> None:
    pairs = [(CLAIMS[name], findings) for name, findings in FOUND.items()]
    assert (PAGES / "index.md").read_text(encoding="utf-8") == overview(pairs)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_what_was_found_is_of_the_claim_as_it_stands(name) -> None:
    assert [each.expected for each in FOUND[name].judged] == [*map(str, CLAIMS[name].expected)]
    assert FOUND[name].problem == CLAIMS[name].plan["problem"]
    assert FOUND[name].seeds >= 10


def test_a_claim_is_run_and_its_page_written(tmp_path) -> None:
    """In small: two seeds of one epoch."""
    claim = replace(
        CLAIMS["gradnorm-grid"],
        plan={
            "problem": "toy_regression",
            "balancers": "equal,gradnorm",
            "static": 2,
            "retrain": True,
        },
    )
    pages = tmp_path / "pages"
    pages.mkdir()
    findings = run(claim, tmp_path / "runs", small=True, workers=1)
    write_findings(pages / f"{claim.name}.json", findings)
    write_pages([claim], pages)
    page = (pages / f"{claim.name}.md").read_text()
    assert f"**{findings.verdict.capitalize()}.**" in page
    for row in findings.rows:
        result = row.result.replace(" ± ", "\u00a0±\u00a0")
        assert f"| `{row.label}` | {result} |" in page
    assert (pages / f"{claim.name}.svg").read_text().count("<svg") == 1
    table = methods_table([findings])
    assert re.findall(r"^\| `(.*?)`", table, re.MULTILINE) == ["gradnorm", "static", "equal"]


def test_options_that_were_tried_on_one_problem_alone_stand_on_its_page() -> None:
    table = methods_table([*FOUND.values()])
    shown = re.findall(r"^\| `(.*?)`(.*)", table, re.MULTILINE)
    assert any(":" in label for label, _ in shown)
    for label, cells in shown:
        filled = [cell for cell in cells.split("|") if cell.strip()]
        assert label.isidentifier() or len(filled) > 1, label
