from __future__ import annotations

import pytest
from docs.extension import reference_pages
from docs.extension.navigation import with_links, with_others


def test_every_public_name_is_in_the_reference_or_has_a_page_as_a_method() -> None:
    text = "\n".join(reference_pages.reference_pages().values())
    methods = reference_pages.methods().values()
    for name, thing in reference_pages.public_things().items():
        assert (f":: {name}\n" in text) != (thing in methods), name


def test_a_public_name_without_a_docstring_stops_the_build(monkeypatch) -> None:
    class Silent:
        def speak(self) -> None: ...

    things = {"equipoise.Silent": Silent}
    monkeypatch.setattr(reference_pages, "public_things", lambda: things)
    with pytest.raises(ValueError, match=r"no docstring: equipoise\.Silent\."):
        reference_pages.reference_pages()
    Silent.__doc__ = "Says one word."
    with pytest.raises(ValueError, match=r"no docstring: equipoise\.Silent\.speak\."):
        reference_pages.reference_pages()


def test_a_document_that_the_start_page_does_not_name_gets_a_place() -> None:
    text = "start\n<!-- others -->\n"
    assert with_others(text, ["comparing", "index", "start"]) == "start\ncomparing\n"


def test_methods_in_the_table_of_choices_are_links() -> None:
    assert with_links("`GradNorm(every=10)`, `every=10`") == (
        "[`GradNorm(every=10)`](methods/GradNorm.md), `every=10`"
    )
