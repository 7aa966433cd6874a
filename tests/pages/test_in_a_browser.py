"""Pages that the library writes, on a phone in the dark and on a desktop in the light."""

from __future__ import annotations

import itertools

import pytest
import torch

import equipoise as eq
from equipoise.benchmarks.bench.prices import Bench
from equipoise.benchmarks.bench.report import render as render_bench
from equipoise.benchmarks.diagnose.page import render as render_diagnosis
from equipoise.benchmarks.diagnose.problem import diagnose_problem
from equipoise.monitor.page import render as render_records
from tests.benchmarks.bench.tiny import invented
from tests.benchmarks.compare.conftest import OPTIONS
from tests.benchmarks.small import problem, ten_problem
from tests.browser import CHROMIUM, DESKTOP, PHONE, SCROLLED, browser
from tests.pages.test_picture_frame import contrast

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")

LONG = [f"reconstruction_of_the_left_half_{place}" for place in range(10)]
MANY = [f"loss_{place}" for place in range(40)]

IN_PICTURES = "text:not(.heatmap-label text, .hoverlayer text)"
INKS = """
[...document.querySelectorAll('%s')].filter((part) => part.checkVisibility()).map((part) => {
  const hex = (colour) => '#' + colour.match(/\\d+/g).slice(0, 3).map(
    (number) => Number(number).toString(16).padStart(2, '0')).join('');
  const style = getComputedStyle(part);
  return [hex(part.closest('svg') ? style.fill : style.color),
    hex(getComputedStyle(document.body).backgroundColor)];
})
"""
OUTSIDE = f"""
[...document.querySelectorAll('.js-plotly-plot')].flatMap((plot) => {{
  const room = plot.getBoundingClientRect();
  return [...plot.querySelectorAll('{IN_PICTURES}')].filter((text) => {{
    const box = text.getBoundingClientRect();
    return box.width && (box.left < room.left - 1 || box.right > room.right + 1
      || box.top < room.top - 1 || box.bottom > room.bottom + 1);
  }}).map((text) => plot.id + ': ' + text.textContent);
}})
"""
COLLIDING = f"""
[...document.querySelectorAll('.js-plotly-plot')].flatMap((plot) => {{
  const texts = [...plot.querySelectorAll('{IN_PICTURES}')].filter((text) =>
    text.textContent && !/rotate\\((?!0)/.test(text.getAttribute('transform') ?? ''));
  const boxes = texts.map((text) => text.getBoundingClientRect());
  return boxes.flatMap((one, i) => boxes.slice(i + 1).map((other, j) => [one, other, i, i + 1 + j]))
    .filter(([one, other]) => Math.min(one.right, other.right) - Math.max(one.left, other.left) > 2
      && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 3)
    .map(([, , i, j]) => [plot.id, texts[i].textContent, texts[j].textContent])
    .filter(([, one, other]) => one !== '0' || other !== '0');  // of two axes, in their corner
}})
"""
UNNAMED_TABLES = """
[...document.querySelectorAll('table')].filter((table) =>
  !(table.caption || document.getElementById(table.getAttribute('aria-describedby')))
  || [...table.querySelectorAll('th')].some((head) => !head.scope)).length
"""
HEADINGS = "[...document.querySelectorAll('h1, h2, h3, h4')].map((head) => Number(head.tagName[1]))"


def record_of(names):
    """A record of losses that share a layer, in which some gradients are in conflict."""
    torch.manual_seed(0)
    trunk, heads = torch.nn.Linear(4, 6), torch.nn.Linear(6, len(names))
    balancer, recorder = eq.Equal(names), None
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=1e-2)
    recorder = eq.Recorder(balancer, every=1, measure=2)
    for _ in range(12):
        optimizer.zero_grad()
        errors = heads(trunk(torch.randn(8, 4)).tanh()) - torch.randn(8, len(names))
        balancer.backward(dict(zip(names, errors.square().mean(dim=0), strict=True)))
        optimizer.step()
    return recorder.history()


def diagnosed(problem):
    return render_diagnosis(problem, diagnose_problem(problem, OPTIONS, 0, 3))


def priced():
    labels = ("equal", "gradnorm:every=10", "uncertainty:scale=first_value", "mtadam", "upgrad")
    prices = [
        invented(label, losses=losses, ratio=1.0 + place * losses / 4)
        for losses in (2, 10)
        for place, label in enumerate(labels)
    ]
    return render_bench(Bench({"torch": "2"}, prices, []))


PAGES = {
    "bench": priced,
    "diagnosis": lambda: diagnosed(problem()),
    "diagnosis of ten losses": lambda: diagnosed(ten_problem()),
    "record": lambda: render_records([record_of(["near", "far", "sky"])]),
    "record of long names": lambda: render_records([record_of(LONG)]),
    "record of forty losses": lambda: render_records([record_of(MANY)]),
    "two records": lambda: render_records([record_of(LONG), record_of(["near", "far"])]),
}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module", params=PAGES)
def page(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    return path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((PHONE, True), id="phone in the dark"),
        pytest.param((DESKTOP, False), id="desktop in the light"),
    ],
)
def view(request, tab, page):
    """The tab, with the page opened in one of two ways."""
    size, dark = request.param
    tab.open(page, size, dark=dark)
    return tab


def test_tables_alone_scroll_sideways_and_take_the_keyboard(view):
    view.wait_for(f"{SCROLLED}.every((part) => part.matches('.scroll') && part.ariaLabel)", 10)
    assert view.ask(f"{SCROLLED}.every((part) => part.tabIndex === 0)")
    assert view.ask("document.documentElement.scrollWidth <= window.innerWidth")
    assert view.complaints == []


def test_the_keyboard_reaches_what_scrolls_and_shows_where_it_is(view):
    scrolled = view.ask(f"{SCROLLED}.map((part) => part.ariaLabel)")
    stops = view.tabbed()
    assert sorted(stop["name"] for stop in stops if stop["scrolls"]) == sorted(scrolled)
    assert all(stop["ring"] >= 2 for stop in stops)


def test_no_two_regions_have_one_name(view):
    names = view.ask(
        "[...document.querySelectorAll('[role=region]')].map((part) => part.ariaLabel)"
    )
    assert sorted(set(names)) == sorted(names)


def test_no_text_of_a_picture_is_cut_or_lies_on_another(view):
    assert view.ask(OUTSIDE) == []
    assert view.ask(COLLIDING) == []


def test_everything_that_is_written_is_read(view):
    for selector in (IN_PICTURES, "h1, h2, p, th, td, li, caption, figcaption"):
        drawn = view.ask(INKS % selector)
        assert drawn
        assert all(contrast(ink, paper) >= 4.5 for ink, paper in drawn), selector


def test_tables_say_what_they_are_and_headings_leave_out_no_level(view):
    assert view.ask(UNNAMED_TABLES) == 0
    levels = view.ask(HEADINGS)
    assert levels.count(1) == 1 == levels[0]
    assert all(level <= before + 1 for before, level in itertools.pairwise(levels))


def test_a_page_of_forty_losses_is_read_in_some_screens(tab, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGES["record of forty losses"](), encoding="utf-8")
    assert "735 more pairs, with higher cosines, are not shown" in path.read_text(encoding="utf-8")
    tab.open(path, PHONE)
    assert tab.ask("document.documentElement.scrollHeight") < 15 * PHONE[1]


def test_paper_is_white_whatever_the_screen_is(tab, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(priced(), encoding="utf-8")
    tab.open(path, DESKTOP, dark=True)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab("Emulation.setEmulatedMedia", media="print", features=dark)
    try:
        tab.wait_for("getComputedStyle(document.querySelector('.xtick text')).fill.includes('28,')")
        assert tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        tab("Emulation.setEmulatedMedia", media="", features=[])
