from __future__ import annotations

import pytest
from docs.extension.evidence_section import FOLDER, evidence, evidence_section
from docs.extension.method_pages import method_pages

from equipoise.benchmarks.methods import PLAIN_SUM, RIGHT, method_class, method_names

PAGES = method_pages()
COMPARED = [(claim, found, row) for claim, found in evidence() for row in found.rows]


def compared(method: str) -> list[tuple]:
    return [each for each in COMPARED if each[2].label.split(":")[0] == method]


def test_every_claim_that_was_tested_is_read() -> None:
    assert {claim.name for claim, _ in evidence()} == {path.stem for path in FOLDER.glob("*.json")}


@pytest.mark.parametrize("method", [name for name in method_names() if name != RIGHT])
def test_the_page_of_a_method_has_all_that_was_found_of_it_and_nothing_where_there_is_none(
    method,
) -> None:
    page = PAGES[f"{method_class(method).__name__}.md"]
    found = [] if method == PLAIN_SUM else compared(method)
    assert ("\n## Evidence\n" in page) == bool(found)
    for claim, findings, row in found:
        (line,) = (
            line
            for line in evidence_section(method)[2].splitlines()
            if f"/{claim.name}.md" in line and f"`{row.label}`" in line.replace("\\|", "|")
        )
        assert line in page
        assert findings.problem in line
        assert (row.verdict or row.result) in line
        assert row.against_plain in line


def test_what_lost_is_shown_as_lost() -> None:
    worse = [row.label.split(":")[0] for *_, row in COMPARED if row.verdict == "worse"]
    assert worse
    assert all("**worse**" in evidence_section(method)[2] for method in worse)
