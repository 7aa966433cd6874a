from __future__ import annotations

import re

from equipoise.benchmarks.bench.prices import Bench
from equipoise.benchmarks.bench.report import render, write_report
from tests.benchmarks.bench.tiny import invented

BENCH = Bench(
    {"torch": "2", "device": "cpu"},
    [
        invented("equal", losses=2),
        invented("equal"),
        invented("peer", kind="peer", variant="batched", ratio=7.5),
    ],
    ["<line> & reason"],
)


def test_page_needs_no_network():
    own = re.sub(r"<script\b.*?</script>", "", render(BENCH), flags=re.DOTALL)
    assert not re.search(r"<(link|img|iframe)|https?://|@import|url\(", own)
    assert "default-src 'none'" in own


def test_page_has_a_table_and_a_picture_for_each_setting_and_the_growth():
    page = render(BENCH)
    assert page.count("<table>") == 2
    assert [name in page for name in ('id="growth0"', 'id="price0"', 'id="price1"')] == [True] * 3
    assert "peer (batched)" in page
    assert "7.50" in page


def test_one_number_of_losses_shows_no_growth():
    assert 'id="growth0"' not in render(Bench({}, [invented("equal")], []))


def test_what_was_left_out_is_said_and_escaped(tmp_path):
    assert "&lt;line&gt; &amp; reason" in write_report(tmp_path, BENCH).read_text(encoding="utf-8")
