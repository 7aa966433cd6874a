from __future__ import annotations

from equipoise.benchmarks.bench.table import COLUMNS, by_setting, cells, title, unsteady
from tests.benchmarks.bench.tiny import invented


def test_a_row_has_a_cell_for_every_column():
    assert len(cells(invented("equal"))) == len(COLUMNS)


def test_prices_are_grouped_by_model_and_number_of_losses():
    prices = [invented("equal", losses=2), invented("equal"), invented("mtadam")]
    assert list(by_setting(prices)) == [("mlp, T = 2", prices[:1]), ("mlp, T = 10", prices[1:])]


def test_the_fastest_way_stands_behind_the_label():
    assert title(invented("peer", variant="batched")) == "peer (batched)"


def test_rows_that_a_busy_machine_disturbed_are_named():
    steady, disturbed = invented("equal", low=1.0, high=1.4), invented("mgda", low=1.0, high=1.6)
    assert unsteady([steady]) == ""
    assert unsteady([steady, disturbed]).endswith(": mgda")
