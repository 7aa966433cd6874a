"""`python -m scripts.evidence [CLAIM ...] [--small] [--pages]`: runs claims, writes their pages."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from scripts.evidence.claim import Claim, read_claim
from scripts.evidence.findings import Findings, findings_of, read_findings, write_findings
from scripts.evidence.overview import overview
from scripts.evidence.page import claim_page
from scripts.evidence.picture import draw

from equipoise.benchmarks.compare.reading import read_standings
from equipoise.benchmarks.compare.statistics import Standing

PAGES = Path("docs/evidence")
RUNS = Path("runs/evidence")


def run(claim: Claim, folder: Path, *, small: bool, workers: int) -> Findings:
    """Runs what a claim's plans ask for and is not finished yet.

    Args:
        claim: The claim.
        folder: Gets the results.
        small: Whether a version that takes a minute is enough.
        workers: Processes.

    Returns:
        What was found.
    """
    found = {
        word: _compared(folder / word, plan, workers)
        for word, plan in claim.plans(small=small).items()
    }
    return findings_of(claim, found.pop(""), found)


def _compared(folder: Path, plan: Mapping[str, Any], workers: int) -> list[Standing]:
    folder.mkdir(parents=True, exist_ok=True)
    asked = folder / "asked.yaml"
    asked.write_text(yaml.safe_dump(dict(plan), sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "equipoise", "compare", str(asked), "--out", str(folder)]
    subprocess.run([*command, "--workers", str(workers)], check=True)  # noqa: S603 (our own)
    return read_standings(folder)


def write_pages(claims: Iterable[Claim], pages: Path) -> None:
    """Writes the page and the picture of each claim of which findings are kept, and the overview.

    Args:
        claims: All claims.
        pages: The folder.
    """
    found = []
    for claim in claims:
        kept = pages / f"{claim.name}.json"
        if kept.exists():
            findings = read_findings(kept)
            (pages / f"{claim.name}.md").write_text(claim_page(claim, findings), encoding="utf-8")
            draw(findings, pages / f"{claim.name}.svg")
            found.append((claim, findings))
    (pages / "index.md").write_text(overview(found), encoding="utf-8")


def read_claims(pages: Path) -> list[Claim]:
    """All claims, in the order of their names."""
    return [read_claim(path) for path in sorted((pages / "claims").glob("*.yaml"))]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.evidence", description=__doc__)
    parser.add_argument("claims", nargs="*", help="names of files in docs/evidence/claims; all")
    parser.add_argument("--small", action="store_true", help="a version that takes a minute")
    parser.add_argument("--pages", action="store_true", help="only write the pages again")
    parser.add_argument("--workers", type=int, default=2, help="processes of this machine")
    parser.add_argument("--out", type=Path, default=PAGES, help="the folder of the pages")
    asked = parser.parse_args()
    claims = read_claims(PAGES)
    unknown = set(asked.claims) - {claim.name for claim in claims}
    if unknown:
        parser.error(f"unknown: {sorted(unknown)}; there are {[claim.name for claim in claims]}")
    asked.out.mkdir(parents=True, exist_ok=True)
    for claim in claims if not asked.pages else ():
        if not asked.claims or claim.name in asked.claims:
            folder = RUNS / ("small" if asked.small else "full") / claim.name
            findings = run(claim, folder, small=asked.small, workers=asked.workers)
            write_findings(asked.out / f"{claim.name}.json", findings)
    write_pages(claims, asked.out)


if __name__ == "__main__":
    main()
