from __future__ import annotations

import io

import pytest
from rich.console import Console

from equipoise.pages.terminal_table import Column, TerminalTable

NAMES = ["plain sum", "gradnorm:alpha=0.12", "右 [b]"]
NUMBERS = [[f"{row}.{place:04d}" for place in range(12)] for row in range(3)]
TABLE = TerminalTable(
    columns=[
        Column("method", "name"),
        *(Column(f"loss\n{place}") for place in range(12)),
        Column("what it does", "prose"),
    ],
    rows=[
        [name, *numbers, "Weighs every loss by what it is worth, and that is all that it does."]
        for name, numbers in zip(NAMES, NUMBERS, strict=True)
    ],
    title="Weights [x]",
    caption="As they were applied.",
)


def printed(table: TerminalTable, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 250])
def test_every_number_stands_in_a_line_with_the_name_of_its_row(width) -> None:
    lines = printed(TABLE, width)
    for name, numbers in zip(NAMES, NUMBERS, strict=True):
        found = [word for line in lines if line.startswith(name[:8]) for word in line.split()]
        assert [word for word in found if word in numbers] == numbers


@pytest.mark.parametrize("width", [40, 60, 80, 120, 250])
def test_nothing_is_cut_and_no_line_is_too_long(width) -> None:
    lines = printed(TABLE, width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    words = " ".join(lines).split()
    assert [words.count(word) for word in ("worth,", "does.")] == [3, 3]
    assert lines[0].strip() == "Weights [x]"
    assert lines[-1].strip() == "As they were applied."


def test_a_wide_terminal_shows_one_block() -> None:
    assert sum("method" in line for line in printed(TABLE, 250)) == 1


def test_a_name_longer_than_the_terminal_is_folded_and_stays_whole() -> None:
    name = "reconstruction_" * 6
    lines = printed(TerminalTable([Column("", "name"), Column("value")], [[name, "1.25"]]), 60)
    assert "".join(line.split()[0] for line in lines[1:]) == name
    assert "1.25" in "".join(lines)


def test_a_head_longer_than_the_terminal_is_folded_and_stays_whole() -> None:
    head = "reconstruction_" * 6
    table = TerminalTable([Column("", "name"), Column(head)], [["a", "1.25"]])
    lines = printed(table, 60)
    assert "".join("".join(lines).split()).startswith(head)
    assert max(map(len, lines)) <= 60


def test_a_long_name_is_broken_at_its_seams() -> None:
    names = ["surface_normals_prediction_l1", "surface_normals_prediction_l2"]
    lines = printed(
        TerminalTable([Column("", "name"), Column("value")], [[n, "1"] for n in names]), 40
    )
    folded = [line.split()[0] for line in lines[1:]]
    assert folded == ["surface_normals_", "prediction_l1", "surface_normals_", "prediction_l2"]
