from __future__ import annotations

import json

import pytest
from scripts.price import kept_prices, main

from equipoise.benchmarks.bench.prices import Bench, write_bench
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.bench.tiny import invented

SETTINGS = {"device": "cpu", "threads": 2, "torch": "2.13.0"}
BENCH = Bench(
    SETTINGS,
    [
        invented("gradnorm", losses=2, ratio=9.0),
        invented("gradnorm", ratio=1.81, memory=1.6),
        invented("gradnorm:every=10", ratio=1.08),
        invented("plain sum", kind="reference", method=""),
        invented("gradnorm", model="pinn", ratio=1.3),
    ],
    [],
)


def test_what_was_measured_at_ten_losses_is_kept_for_each_method():
    kept = kept_prices(BENCH)
    assert kept["prices"] == {
        "gradnorm": {
            "passes": 1.0,
            "time": 1.81,
            "time_every_10": 1.08,
            "time_own_graphs": 1.3,
            "memory": 1.6,
        }
    }
    assert {key: kept[key] for key in SETTINGS} == SETTINGS
    assert (kept["model"], kept["losses"]) == ("mlp", 10)


def test_an_empty_benchmark_is_refused():
    with pytest.raises(RequestError, match="run equipoise bench first"):
        kept_prices(Bench(SETTINGS, [], []))


def test_the_script_writes_the_document_anew(tmp_path, monkeypatch):
    document = tmp_path / "prices.json"
    document.write_text("old")
    source = write_bench(tmp_path, BENCH)
    monkeypatch.setattr("sys.argv", ["price.py", str(source), str(document)])
    main()
    assert json.loads(document.read_text()) == kept_prices(BENCH)


def test_the_script_leaves_the_document_alone_where_nothing_was_measured(tmp_path, monkeypatch):
    document = tmp_path / "prices.json"
    document.write_text("as it was")
    monkeypatch.setattr("sys.argv", ["price.py", str(tmp_path / "bench.json"), str(document)])
    with pytest.raises(SystemExit, match="run equipoise bench first"):
        main()
    assert document.read_text() == "as it was"
