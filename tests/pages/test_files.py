from __future__ import annotations

import pytest

from equipoise.pages.files import folder_name, write_atomically


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path):
    path = tmp_path / "folder" / "page.html"
    write_atomically(path, "old")
    write_atomically(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "page.html"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    "name",
    [
        "a:b",
        "a/b",
        "a\\b",
        "a?",
        'a"b',
        "a|b",
        "a<b>",
        "a*",
        "con",
        "LPT1.txt",
        "a.",
        "..",
        "",
        " ",
    ],
)
def test_a_folder_of_any_name_is_one_that_every_system_takes(name):
    made = folder_name(name)
    assert made
    assert not set(made) & set('<>:"/\\|?*')
    assert made == made.rstrip(". ")
    assert made.split(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt1")


@pytest.mark.parametrize("name", ["digits", "toy_regression", "my problem-2", "a.b", "größe"])
def test_a_folder_of_a_plain_name_is_called_so(name):
    assert folder_name(name) == name
