from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from equipoise.benchmarks.compare.checking import check
from equipoise.benchmarks.compare.comparison import compare
from equipoise.benchmarks.compare.console import ranking_table, weights_table
from equipoise.benchmarks.compare.live_bars import LiveBars
from equipoise.benchmarks.compare.statistics import standings


def printed(*things, width=100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*things)
    return console.file.getvalue()


def test_ranking_shows_metric_interval_seeds_and_price(runs):
    text = printed(ranking_table(standings(runs, {"equal": 1.0, "right": 1.26})))
    (row,) = [line for line in text.splitlines() if "right" in line]
    assert "±" in row
    assert "1.26" in row
    assert "not measured" in text
    assert "plain sum" in text
    assert "2 epochs, batches of 8, learning rate 0.01" in text


def test_weights_of_ten_losses_fit_a_narrow_terminal(runs):
    rows = standings(runs, {})
    for row in rows:
        row.final_weights.clear()
        row.final_weights.update({f"digit_{c}": 0.00123 for c in range(10)})
    text = printed(weights_table(rows), width=80)
    assert "…" not in text
    assert text.count("0.001") == 30


def test_bars_end_full_and_name_the_last_metric(comparison):
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with LiveBars(comparison, check(comparison), console) as bars:
        compare(comparison, bars)
        assert all(task.finished for task in bars.progress.tasks)
    text = console.file.getvalue()
    assert "seed 1: error" in text
    assert "gradnorm:every=2" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_long_names_and_metrics_are_folded_beside_the_bars_and_nothing_is_cut(comparison, width):
    long = "softadapt:source=paper:variant=normalized:scale=first_value"
    metric = "normalised test loss of [x]"
    problem = dataclasses.replace(comparison.problem, labels={"equal": long}, metric=metric)
    comparison = dataclasses.replace(comparison, problem=problem)
    console = Console(file=io.StringIO(), width=width)
    with LiveBars(comparison, check(comparison), console) as bars:
        compare(comparison, bars)
    text = console.file.getvalue()
    assert "…" not in text
    pieces = ["softadapt:", "source=", "paper:", "variant=", "normalized:", "scale=", "value"]
    assert all(piece in text for piece in pieces)
    words = " ".join(re.sub("━+", "", text).split())
    assert len(re.findall(r"\b\d\.\d{3}\b", words)) == 3
    assert words.count("[x]") == 3


def test_bars_of_a_continued_comparison_start_where_it_stopped(comparison):
    console = Console(file=io.StringIO(), width=120)
    with LiveBars(comparison, check(comparison), console) as bars:
        compare(comparison, bars)
    with LiveBars(comparison, check(comparison), console) as bars:
        compare(comparison, bars)
        assert all(task.finished for task in bars.progress.tasks)
    assert "6 runs were finished before; 0 to do." in console.file.getvalue()
