from __future__ import annotations

from pathlib import Path

import pytest
from scripts.choices import BEGIN, END, main, with_choices

from equipoise.monitor.rules import choices_table

PAGE = Path(__file__).parents[2] / "docs" / "which.md"


def test_the_page_is_up_to_date():
    text = PAGE.read_text(encoding="utf-8")
    assert with_choices(text) == text, "run scripts/choices.py docs/which.md"


def test_what_stands_between_the_markers_is_replaced():
    text = with_choices(f"before\n{BEGIN}\nold\n{END}\nafter")
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert "old" not in text
    assert choices_table() in text


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_document_without_markers_is_refused(text):
    with pytest.raises(ValueError, match="needs the lines"):
        with_choices(text)


def test_the_script_rewrites_a_document(tmp_path, monkeypatch):
    document = tmp_path / "page.md"
    document.write_text(f"{BEGIN}{END}", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["choices.py", str(document)])
    main()
    assert choices_table() in document.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_wrong_arguments_say_how_it_is_used(arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["choices.py", *arguments])
    with pytest.raises(SystemExit, match="usage"):
        main()
