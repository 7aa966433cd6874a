from __future__ import annotations

import dataclasses
import re

import pytest

from equipoise.benchmarks.compare.explained import command
from equipoise.benchmarks.compare.fingerprint import Fingerprint
from equipoise.benchmarks.compare.report import headline, read_standings, render, write_report
from equipoise.benchmarks.compare.request import parse_seeds
from equipoise.benchmarks.compare.results import Results
from equipoise.benchmarks.compare.statistics import standings
from equipoise.benchmarks.compare.step_times import Prices
from equipoise.benchmarks.compare.timing_file import write_timing
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.compare.conftest import EXPERIMENT, OPTIONS
from tests.browser import CHROMIUM, opened

PICTURES = ("ranking", "metric", "losses", "weights")


@pytest.fixture
def folder(tmp_path, runs):
    results = Results(tmp_path)
    for run in runs:
        results.append(run)
    write_timing(tmp_path, EXPERIMENT, Prices({"equal": 1.02, "mtadam": 2.5}))
    return tmp_path


def own_html(page: str) -> str:
    """The page without plotly.js, whose source names addresses that it never opens here."""
    scripts = re.findall(r"<script>.*?</script>", page, flags=re.DOTALL)
    return page.replace(max(scripts, key=len), "")


def test_the_page_holds_plotly_once_and_asks_for_nothing_from_outside(folder):
    page = write_report(folder).read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>", page)
    assert all("src" not in script for script in scripts)
    assert sum(len(body) > 1_000_000 for body in page.split("<script>")) == 1
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|img|iframe)|https?://|@import|url\(", own_html(page))


def test_the_page_shows_every_method_with_metric_price_and_weights(folder):
    page = own_html(write_report(folder).read_text(encoding="utf-8"))
    for row in read_standings(folder):
        assert f'<th scope="row">{row.title}</th><td>{row.metric}</td><td>3</td>' in page
    assert "<td>2.50</td>" in page
    assert "<td>not measured</td>" in page
    assert "<td>0.01</td>" in page  # the weight of `far` that `right` ended at


def test_what_a_problem_says_is_escaped(folder):
    page = own_html(write_report(folder).read_text(encoding="utf-8"))
    assert "Two lines &amp; one &lt;plane&gt;." in page


def test_rebuilding_gives_the_same_page(folder):
    first = write_report(folder).read_text(encoding="utf-8")
    assert write_report(folder).read_text(encoding="utf-8") == first


def test_runs_with_other_options_than_the_last_are_left_out(folder, runs):
    other = dataclasses.replace(OPTIONS, lr=0.5)
    Results(folder).append(dataclasses.replace(runs[0], options=other))
    (row,) = read_standings(folder)
    assert len(row.runs) == 1
    assert row.relative_time is None


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no finished run"):
        write_report(tmp_path)


def test_one_seed_is_reported_without_an_interval(runs):
    rows = standings([run for run in runs if run.seed == 0], {})
    page = own_html(render(rows))
    assert "one seed gives no interval" in page
    assert "±" not in page


def test_the_headline_names_the_best_method_beside_both_references(runs):
    rows = standings(runs, {})
    sentence = headline(rows)
    for row in rows:
        assert f"{row.metric.mean:.3f}" in sentence
    assert "mtadam reaches error " in sentence


def test_the_headline_admits_it_where_nothing_beats_the_plain_sum(runs):
    rows = standings(runs, {})
    plain = next(row for row in rows if row.balancer == "equal")
    others = [row for row in rows if row.balancer != "equal"]
    assert headline([plain, *others]).startswith("No balancer beats the plain sum here: ")
    assert not headline([*others, plain]).startswith("No balancer")


def test_references_alone_have_a_headline_too(runs):
    rows = standings([run for run in runs if run.balancer == "equal"], {})
    assert headline(rows) == f"small: plain sum reaches error {rows[0].metric}."


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the report with")
def test_a_browser_without_network_draws_every_picture(folder, tmp_path):
    page = write_report(folder)
    shown = opened(page, tmp_path / "profile")
    for picture in PICTURES:
        part = shown.stdout.split(f'id="{picture}"', 1)[1]
        assert "main-svg" in part.split("</figure>", 1)[0]
    assert shown.stdout.count('class="scatterlayer') >= len(PICTURES)
    assert "CONSOLE" not in shown.stderr  # neither an error nor a blocked request


def test_the_page_says_what_balancing_is_and_what_each_method_does(folder):
    page = own_html(write_report(folder).read_text(encoding="utf-8"))
    explained = page.split('id="explained"', 1)[1]
    assert "The right weights are those that undo" in explained
    for row in read_standings(folder):
        assert f"<dt>{row.title}</dt><dd>" in explained


def test_the_page_names_the_command_and_the_versions(folder, runs):
    page = own_html(write_report(folder).read_text(encoding="utf-8"))
    asked = "--balancers equal,right,mtadam --seeds 3 --epochs 2 --batch-size 8 --lr 0.01"
    assert f"<code>equipoise compare module:function {asked}</code>" in page
    assert "do not say with which versions" in page
    made = Fingerprint("", "", "1.2.3", "4.5.6", "cpu")
    known = [dataclasses.replace(run, fingerprint=made) for run in runs]
    assert "equipoise 1.2.3, torch 4.5.6, on cpu." in own_html(render(standings(known, {})))


@pytest.mark.parametrize(
    ("seeds", "written"), [((0,), "1"), ((3,), "3,"), ((0, 1, 2), "3"), ((3, 8), "3,8")]
)
def test_the_command_asks_for_the_same_seeds(runs, seeds, written):
    made = [dataclasses.replace(runs[0], seed=seed) for seed in seeds]
    words = command(standings(made, {})).split()
    assert words[words.index("--seeds") + 1] == written
    assert parse_seeds(written) == seeds
