from __future__ import annotations

import inspect
import re
from importlib import import_module

import pytest
from docs.extension import reference_pages
from docs.extension.method_pages import method_pages
from docs.extension.navigation import with_links, with_others


def test_every_public_name_is_in_the_reference_or_has_a_page_as_a_method() -> None:
    text = "\n".join(reference_pages.reference_pages().values())
    methods = reference_pages.methods().values()
    for name, thing in reference_pages.public_things().items():
        assert (f":: {name}\n" in text) != (thing in methods), name


def documented_members() -> set[tuple[type, str]]:
    """What pages hold of classes: as autodoc does, from a class up to the base that it stops at."""
    pages = {**reference_pages.reference_pages(), **method_pages()}
    shown = r"autoclass:: (\S+)\n(?:   :.*\n)*?   :inherited-members: (\w+)"
    found: set[tuple[type, str]] = set()
    for name, last in re.findall(shown, "\n".join(pages.values())):
        module, _, attribute = name.rpartition(".")
        for base in getattr(import_module(module), attribute).__mro__:
            if base.__name__ == last:
                break
            found |= {(base, member) for member in vars(base)}
    return found


def test_what_a_public_class_can_be_asked_for_stands_on_a_page_whoever_wrote_it() -> None:
    documented = documented_members()
    kinds = [kind for kind in reference_pages.public_things().values() if isinstance(kind, type)]
    for base in {base for kind in kinds for base in kind.__mro__}:
        if base.__module__.startswith("equipoise"):
            callable_ = {name for name, what in vars(base).items() if is_called(what)}
            missing = {(base, name) for name in callable_ if not name.startswith("_")} - documented
            assert not missing


def is_called(what: object) -> bool:
    return inspect.isfunction(what) or isinstance(what, property | classmethod | staticmethod)


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
