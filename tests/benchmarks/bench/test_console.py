from __future__ import annotations

import pytest
from typer.testing import CliRunner

from equipoise.benchmarks.bench.prices import read_bench
from equipoise.cli import app, main


def test_bench_prints_a_table_and_leaves_results_and_a_page(tmp_path):
    request = ["bench", "--balancers", "equal,gradnorm", "--models", "conv", "--losses", "2"]
    request += ["--rounds", "2", "--every", "1,2", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, request, env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert "conv, T = 2" in result.output
    assert "gradnorm:every=2" in result.output
    labels = [price.label for price in read_bench(tmp_path / "bench.json").prices]
    assert labels == ["plain sum", "T passes + Gramian", "equal", "gradnorm", "gradnorm:every=2"]
    assert "</html>" in (tmp_path / "bench.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--balancers", "gradnrom"],
        ["--models", "resnet"],
        ["--losses", "1"],
        ["--every", "0"],
        ["--wrt", "trunk"],
        ["--rows", "1"],
        ["--rounds", "1"],
        ["--device", "tpu"],
    ],
    ids=" ".join,
)
def test_a_wrong_request_ends_with_one_line_and_exit_code_2(wrong, tmp_path, capsys):
    assert main(["bench", *wrong, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("equipoise: ")
    assert error.count("\n") == 1
