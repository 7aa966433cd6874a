from __future__ import annotations

import re

import hatch_build
import pytest

TEXT = """\
![A curve](docs/curve.png) [Read](docs/a.md#part), [paper](https://example.org/x), [below](#below).
<picture><source srcset="docs/dark.png"><img src="docs/light.png" alt="A curve"></picture>
"""
HOME = "https://example.org/us/equipoise"


def test_where_the_home_is_known_every_link_leads_to_the_files_of_the_version() -> None:
    text = hatch_build.linked(TEXT, HOME, "v1.2")
    assert f"![A curve]({HOME}/raw/v1.2/docs/curve.png)" in text
    assert f"[Read]({HOME}/blob/v1.2/docs/a.md#part)" in text
    assert f'srcset="{HOME}/raw/v1.2/docs/dark.png"' in text
    assert "[paper](https://example.org/x), [below](#below)" in text
    assert not re.search(r'[("]docs/', text)


def test_elsewhere_no_link_is_broken_and_no_word_is_lost() -> None:
    text = hatch_build.unlinked(TEXT)
    assert text.strip() == "Read, [paper](https://example.org/x), [below](#below)."


@pytest.mark.parametrize("home", ["", HOME])
def test_readme_as_an_index_shows_it_has_no_relative_link(home, monkeypatch, request) -> None:
    monkeypatch.setenv("EQUIPOISE_HOME", home)
    metadata = {"version": "1.2"}
    hatch_build.Hook(str(request.config.rootpath), {}).update(metadata)
    text = metadata["readme"]["text"]
    links = re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"', text)
    assert all(re.match(r"https?://|#", one or other) for one, other in links)
    assert bool(metadata["urls"]) == bool(home)
