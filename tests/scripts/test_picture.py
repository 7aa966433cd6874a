from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from scripts.picture import DASHES, LINE, LOOKS, Curve, picture, spread

CURVES = [Curve(f"<{i}>", [0, 10, 20], [0.1, 0.5, 0.9 - i / 100]) for i in range(len(DASHES))]
PAGES = {"light": "#ffffff", "dark": "#0d1117"}


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("name", LOOKS)
def test_every_curve_has_a_colour_and_a_dash_of_its_own(name) -> None:
    svg = ET.fromstring(picture(CURVES, LOOKS[name]))  # noqa: S314 (written above)
    lines = svg.findall(".//{*}polyline")
    assert len({line.get("stroke") for line in lines}) == len(CURVES)
    assert len({line.get("stroke-dasharray") for line in lines}) == len(CURVES)


@pytest.mark.parametrize("name", LOOKS)
def test_every_colour_stands_out_from_its_page(name) -> None:
    page = luminance(PAGES[name])
    for colour in (LOOKS[name].text, *LOOKS[name].colours):
        light, dark = sorted((luminance(colour), page), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_names_at_the_ends_do_not_overlap() -> None:
    assert all(after - before >= LINE for before, after in pairwise(spread([3.0, 3.0, 4.0, 90.0])))


def test_the_mean_is_written_beside_the_name() -> None:
    shown = picture([replace(CURVES[0], name="mtadam")], LOOKS["light"])
    assert re.search(r">mtadam 0\.90<", shown)
