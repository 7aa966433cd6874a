from __future__ import annotations

import re

import pytest

from equipoise.benchmarks.demo.page import render, write_page
from tests.benchmarks.demo.conftest import BEALE, SMALL
from tests.browser import CHROMIUM, DESKTOP, PHONE, SCROLLED, browser
from tests.pages.test_picture_frame import contrast

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")
SIZES = [pytest.param(PHONE, id="phone"), pytest.param(DESKTOP, id="desktop")]
SCHEMES = [pytest.param(False, id="light"), pytest.param(True, id="dark")]
COLOURS = """
[...document.querySelectorAll('%s')].map((found) => {
  const hex = (colour) => '#' + colour.match(/\\d+/g).slice(0, 3).map(
    (part) => Number(part).toString(16).padStart(2, '0')).join('');
  const style = getComputedStyle(found);
  return [hex(%s), hex(getComputedStyle(document.body).backgroundColor)];
})
"""


@pytest.fixture(scope="module")
def page(found, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("demo"), found)


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_each_part_has_its_sentences_its_table_and_a_link_to_its_report(found):
    html = render(found)
    for each in found:
        section = html.partition(f'<section aria-labelledby="{each.part.name}">')[2]
        section = section.partition("</section>")[0]
        assert f'href="{each.part.name}/report.html"' in section
        for row in each.rows:
            assert f'<th scope="row">{row.title}</th><td class="prose">{row.result}</td>' in section
        assert "reaches" in section.partition("<table")[0]
    assert html.count("<section") == 2


def test_what_a_part_says_is_escaped(found):
    html = render(found)
    assert "Two lines &amp; one plane" in html
    assert "<plane>" not in html


def test_results_that_are_not_known_are_said_not_to_be(found):
    (glance,) = re.findall(rf'<tr>[^\n]*href="#{BEALE.name}"[^\n]*</tr>', render(found))
    assert glance.endswith("<td>not known</td></tr>")
    (glance,) = re.findall(rf'<tr>[^\n]*href="#{SMALL.name}"[^\n]*</tr>', render(found))
    assert "not known" not in glance


@in_a_browser
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dark", SCHEMES)
def test_everything_is_drawn_seen_and_nothing_sticks_out(tab, page, size, dark):
    tab.open(page, size, dark=dark)
    width = tab.ask("document.documentElement.clientWidth")
    assert tab.ask("document.documentElement.scrollWidth") <= width
    edges = (
        "[...document.querySelectorAll('h1, h2, p, figcaption, .main-svg')].map((part) => "
        "part.getBoundingClientRect()).filter((box) => box.width).map((box) => "
        "[box.left, box.right])"
    )
    assert all(left >= 0 and right <= width for left, right in tab.ask(edges))
    assert tab.ask("document.querySelectorAll('figure .main-svg:first-child').length") == 2
    for selector, colour in (
        ("p, th, td, a, figcaption, .caption", "style.color"),
        (".legendtext, .xtitle, .ytitle", "style.fill"),
    ):
        drawn = tab.ask(COLOURS % (selector, colour))
        assert drawn
        assert all(contrast(ink, paper) >= 4.5 for ink, paper in drawn), selector
    lines = tab.ask(COLOURS % (".legendlines path", "style.stroke"))
    assert len(lines) == 5 + 3
    assert all(contrast(ink, paper) >= 3 for ink, paper in lines)
    assert tab.complaints == []


@in_a_browser
@pytest.mark.parametrize("size", SIZES)
def test_a_picture_fills_what_its_table_leaves(tab, page, size):
    tab.open(page, size)
    fits = (
        "[...document.querySelectorAll('.beside > figure')].every((figure) => Math.abs("
        "figure.querySelector('.main-svg').getBoundingClientRect().width - figure.clientWidth) < 2)"
    )
    tab.wait_for(fits)


@in_a_browser
@pytest.mark.parametrize("size", SIZES)
def test_what_scrolls_sideways_takes_the_keyboard(tab, page, size):
    tab.open(page, size)
    assert tab.ask(f"{SCROLLED}.every((part) => part.tabIndex === 0 && part.ariaLabel)")


@in_a_browser
def test_a_phone_shows_each_methods_result_without_scrolling_sideways(tab, page):
    tab.open(page, PHONE)
    ends = tab.ask(
        "[...document.querySelectorAll('tbody td:nth-child(2)')].map("
        "(cell) => cell.getBoundingClientRect().right)"
    )
    assert ends
    assert max(ends) <= PHONE[0]
