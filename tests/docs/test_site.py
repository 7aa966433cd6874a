from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path) -> None:
    for needed in ("sphinx", "furo", "myst_parser", "latex2mathml"):
        pytest.importorskip(needed)
    strictly = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--fresh-env", "-q"]
    done = subprocess.run(
        [sys.executable, *strictly, ROOT / "docs", tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert (tmp_path / "searchindex.js").stat().st_size > 100_000
