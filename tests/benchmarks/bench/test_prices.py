from __future__ import annotations

import json

import pytest

from equipoise.benchmarks.bench.cases import REFERENCES
from equipoise.benchmarks.bench.prices import (
    Bench,
    Footprint,
    fastest_variants,
    price,
    read_bench,
    write_bench,
)
from equipoise.benchmarks.refusal import RequestError
from equipoise.benchmarks.timing import Pair
from tests.benchmarks.bench.tiny import invented


def test_ratio_is_the_median_of_the_paired_ratios_with_its_quartiles():
    pairs = [Pair(own, plain) for own, plain in [(2, 1), (6, 2), (8, 2), (20, 4), (0.6, 0.1)]]
    footprint = Footprint(memory=2.0, bytes_held=1, through=1.0, entering=3.0)
    found = price("mlp", 3, REFERENCES[0], footprint, pairs)
    assert (found.low, found.ratio, found.high) == pytest.approx((3, 4, 5))
    assert found.milliseconds == 6000


def test_only_the_fastest_way_of_a_row_stays_at_its_place():
    slow = invented("peer", ratio=9.0, variant="batched")
    fast = invented("peer", ratio=8.0, variant="pass by pass")
    other = invented("equal")
    assert fastest_variants([slow, other, fast]) == [fast, other]


def test_what_was_written_is_read_back(tmp_path):
    bench = Bench({"torch": "2", "threads": 1}, [invented("equal")], ["a line"])
    assert read_bench(write_bench(tmp_path, bench)) == bench


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"prices": [{"model": "mlp"}]})])
def test_a_file_that_is_no_benchmark_is_refused(tmp_path, text):
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(RequestError, match="no benchmark of this version"):
        read_bench(path)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(RequestError, match="run equipoise bench first"):
        read_bench(tmp_path / "bench.json")
