from __future__ import annotations

import dataclasses
import re
from itertools import combinations

import pytest

from equipoise.benchmarks.compare.report import render
from equipoise.benchmarks.compare.statistics import standings
from equipoise.benchmarks.diagnose.problem import diagnose_problem
from tests.benchmarks.compare.conftest import OPTIONS
from tests.benchmarks.small import ten_problem
from tests.browser import CHROMIUM, DESKTOP, PHONE, SCROLLED, browser
from tests.pages.test_picture_frame import contrast

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")

METHODS = ("equal", "right", "mtadam", "gradnorm:alpha=0.12:wrt=shared", "upgrad", "dwa", "famo")
TEN = ten_problem().losses
SIZES = [pytest.param(PHONE, id="phone"), pytest.param(DESKTOP, id="desktop")]
SCHEMES = [pytest.param(False, id="light"), pytest.param(True, id="dark")]
BOXES = """
[...document.querySelectorAll('%s')].map((found) => {
  const box = found.getBoundingClientRect();
  return [box.left, box.top, box.right, box.bottom];
})
"""


def with_ten_losses(run, method):
    curves = [*run.trajectory.losses.values()]
    weights = [*run.trajectory.weights.values()]
    trajectory = dataclasses.replace(
        run.trajectory,
        losses={name: curves[place % 2] for place, name in enumerate(TEN)},
        weights={name: weights[place % 2] for place, name in enumerate(TEN)},
    )
    return dataclasses.replace(run, balancer=method, trajectory=trajectory)


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    """Seven methods, ten losses with long names, and the diagnosis on top."""
    made = [with_ten_losses(run, method) for run in runs[:2] for method in METHODS]
    diagnosis = diagnose_problem(ten_problem(), OPTIONS, 0, 3)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(standings(made, {}), diagnosis.summary), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def boxes(tab, selector):
    return [box for box in tab.ask(BOXES % selector) if box[2] > box[0]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dark", SCHEMES)
def test_everything_is_drawn_and_nothing_sticks_out(tab, page, size, dark):
    tab.open(page, size, dark=dark)
    width = tab.ask("document.documentElement.clientWidth")
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert len(boxes(tab, "figure .main-svg:first-child")) == 4
    for selector in ("h1", "p", ".caption", "dt", "dd", "pre", "figure .main-svg:first-child"):
        assert all(left >= 0 and right <= width for left, _, right, _ in boxes(tab, selector))
    assert tab.complaints == []


def test_a_phone_shows_who_won_without_scrolling_sideways(tab, page):
    tab.open(page, PHONE)
    ranking = "[aria-label=Ranking] tbody tr:first-child "
    (name,), (metric, *_) = boxes(tab, ranking + "th"), boxes(tab, ranking + "td:nth-child(3)")
    assert 0 <= name[0] < name[2] <= metric[0] < metric[2] <= PHONE[0]


@pytest.mark.parametrize("size", SIZES)
def test_no_title_lies_on_another(tab, page, size):
    tab.open(page, size)
    for picture in ("ranking", "metric", "losses", "weights"):
        titles = (".xtitle", ".ytitle", ".annotation-text", ".legendtext")
        found = boxes(tab, ", ".join(f"#{picture} {title}" for title in titles))
        assert found
        for (left, top, right, bottom), (x, y, x_end, y_end) in combinations(found, 2):
            beside = right <= x + 1 or x_end <= left + 1
            assert beside or bottom <= y + 1 or y_end <= top + 1, picture


@pytest.mark.parametrize("dark", SCHEMES)
def test_every_curve_is_seen_and_none_looks_like_another(tab, page, dark):
    tab.open(page, DESKTOP, dark=dark)
    drawn = tab.ask(
        "[...document.querySelectorAll('#metric .legendlines path')].map((line) => {"
        "const style = getComputedStyle(line); return [style.stroke, style.strokeDasharray]; })"
    )
    paper = tab.ask("getComputedStyle(document.body).backgroundColor")
    colours, dashes = zip(*drawn, strict=True)
    assert len(drawn) == len(set(colours)) == len(set(dashes)) == len(METHODS)
    assert all(contrast(hexadecimal(colour), hexadecimal(paper)) >= 3 for colour in colours)


def hexadecimal(colour: str) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)[:3])


@pytest.mark.parametrize("size", SIZES)
def test_what_scrolls_sideways_takes_the_keyboard(tab, page, size):
    tab.open(page, size)
    assert tab.ask(f"{SCROLLED}.length") > 0
    assert tab.ask(f"{SCROLLED}.every((part) => part.tabIndex === 0 && part.ariaLabel)")


def test_tab_and_arrow_move_a_table_that_is_too_wide(tab, page):
    tab.open(page, PHONE)
    for _ in range(60):
        tab.press("Tab", 9)
        if tab.ask("document.activeElement.ariaLabel") == "Weights at the end":
            break
    tab.press("ArrowRight", 39)
    tab.wait_for("document.activeElement.scrollLeft > 0")
    assert tab.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_page_follows_the_scheme_while_it_is_open(tab, page):
    tab.open(page, DESKTOP)
    ink = "getComputedStyle(document.querySelector('#metric .xtitle')).fill"
    assert tab.ask(ink) == "rgb(28, 28, 28)"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab("Emulation.setEmulatedMedia", features=dark)
    tab.wait_for(f"{ink} === 'rgb(232, 232, 232)'")
