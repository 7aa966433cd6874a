from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from equipoise.benchmarks.demo.parts import PARTS
from equipoise.cli import main
from tests.test_cli import PROGRAM

ROOT = Path(__file__).parents[3]
SHORT = ["demo", "--workers", "1"]


@pytest.mark.slow
def test_the_demo_leaves_one_page_and_a_report_for_each_part_and_repeats_no_run(tmp_path, capsys):
    asked = [*SHORT, "--seeds", "1", "--steps", "2", "--out", str(tmp_path)]
    assert main(asked) == 0
    assert str(tmp_path / "demo.html") in capsys.readouterr().out.replace("\n", "")
    kept = {part.name: (tmp_path / part.name / "results.jsonl").read_bytes() for part in PARTS}
    page = (tmp_path / "demo.html").read_text(encoding="utf-8")
    for part in PARTS:
        assert f'href="{part.name}/report.html"' in page
        assert (tmp_path / part.name / "report.html").exists()
        assert (tmp_path / part.name / "plan.yaml").exists()
    (tmp_path / "demo.html").unlink()
    assert main(asked) == 0
    assert (tmp_path / "demo.html").read_text(encoding="utf-8") == page
    for part in PARTS:
        assert (tmp_path / part.name / "results.jsonl").read_bytes() == kept[part.name]


@pytest.mark.slow
def test_ctrl_c_leaves_a_page_of_what_is_finished(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *SHORT, "--seeds", "50", "--out", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    results = tmp_path / PARTS[0].name / "results.jsonl"
    while not (results.exists() and results.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command continues here" in err
    assert "demo.html" in out
    page = (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert page.count("<section") == 1


def test_a_wrong_request_for_the_demo_is_answered_before_anything_is_trained(tmp_path, capsys):
    assert main([*SHORT, "--seeds", "none", "--out", str(tmp_path)]) == 2
    assert "--seeds is a count" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
