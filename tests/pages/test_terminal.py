from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from equipoise.pages.terminal import Name, folded, say, terminal

NAMES = [
    "Δ_m/τ",
    "再構成損失の重み付き平均値です",
    "gradnorm:alpha=1|2",
    "nashmtl (mean weights)",
    "a  b",
    "",
]


@given(st.one_of(st.sampled_from(NAMES), st.text("ab_:= (再é", max_size=30)), st.integers(2, 40))
def test_a_folded_name_keeps_all_but_the_spaces_at_its_seams(name, width) -> None:
    lines = folded(name, width).splitlines() or [""]
    assert max(map(cell_len, lines)) <= max(width, 2)
    assert "".join("".join(lines).split()) == "".join(name.split())


def test_a_name_that_fits_is_left_alone() -> None:
    assert folded("a (b)_c", 7) == "a (b)_c"


def test_what_a_user_named_is_shown_as_it_is() -> None:
    console = terminal()
    console.file = io.StringIO()
    text = "[red]x[/red] [/] :key: [0]"
    console.print(text)
    say(console, text)
    console.print(Name(text))
    assert console.file.getvalue().splitlines() == [text] * 3


SENTENCE = "Better than the plain sum: gradnorm:alpha=0.12:wrt=shared, uncertainty. " * 3


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_terminal_breaks_a_sentence_between_words_and_a_file_holds_it_in_a_line(width) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    say(console, SENTENCE)
    lines = console.file.getvalue().splitlines()
    assert [word for line in lines for word in line.split()] == SENTENCE.split()
    file = Console(file=io.StringIO(), width=width)
    say(file, SENTENCE)
    assert file.file.getvalue().splitlines() == [SENTENCE]
