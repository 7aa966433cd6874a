from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, DESKTOP, PHONE, browser

ROOT = Path(__file__).parents[2]


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]

SIDEWAYS = """
[...document.querySelectorAll('article *')].filter((part) =>
  part.scrollWidth > part.clientWidth + 1
  && ['auto', 'scroll'].includes(getComputedStyle(part).overflowX))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site as `make docs` builds it; a warning is an error."""
    for needed in ("sphinx", "furo", "myst_parser", "latex2mathml"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("site")
    strictly = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--fresh-env", "-q"]
    done = subprocess.run(
        [sys.executable, *strictly, ROOT / "docs", folder],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def test_the_site_builds_without_a_warning_and_can_be_searched(site) -> None:
    assert (site / "searchindex.js").stat().st_size > 100_000


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the site with")
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("page", ["which", "start", "methods/GradNorm", "reference/optimizers"])
def test_the_keyboard_reaches_what_scrolls_and_shows_where_it_is(
    page, size, site, tmp_path
) -> None:
    with browser(tmp_path) as tab:
        tab.open(site / f"{page}.html", size, pictures=False)
        tab.wait_for(f"{SIDEWAYS}.every((part) => part.tabIndex === 0 && part.ariaLabel)", 10)
        assert size == DESKTOP or tab.ask(f"{SIDEWAYS}.length")
        stops = tab.tabbed(40)
    assert stops
    assert all(stop["ring"] >= 2 and stop["seen"] for stop in stops)
