from __future__ import annotations

import dataclasses
import io
import re

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


def test_beside_a_long_name_no_number_is_cut(comparison):
    long = "softadapt:source=paper:variant=normalized:scale=first_value"
    metric = "normalised test loss"
    problem = dataclasses.replace(comparison.problem, labels={"equal": long}, metric=metric)
    comparison = dataclasses.replace(comparison, problem=problem)
    console = Console(file=io.StringIO(), width=80, force_terminal=True, no_color=True)
    with LiveBars(comparison, check(comparison), console) as bars:
        compare(comparison, bars)
    text = console.file.getvalue()
    assert re.search(r"softadapt:source=paper:.*…", text)
    assert re.search(rf"seed 1: {metric} \d\.\d\d\d \S*0:00:00", text)


def test_bars_of_a_continued_comparison_start_where_it_stopped(comparison):
    console = Console(file=io.StringIO(), width=120)
    with LiveBars(comparison, check(comparison), console) as bars:
        compare(comparison, bars)
    with LiveBars(comparison, check(comparison), console) as bars:
        compare(comparison, bars)
        assert all(task.finished for task in bars.progress.tasks)
    assert "6 runs were finished before; 0 to do." in console.file.getvalue()
