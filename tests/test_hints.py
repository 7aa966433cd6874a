"""Annotations that tools read at run time, for configuration, documentation and checks."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator

import pytest

import equipoise as eq

OPTIONAL = {"Diagnosis.plot", "Diagnosis.__rich__", "Recorder.frame"}
"""They return what packages make that need not be there."""


def callables(name: str) -> Iterator[tuple[str, Callable[..., object]]]:
    found = getattr(eq, name)
    if inspect.isroutine(found) or inspect.isclass(found):
        yield name, found
    for method, function in inspect.getmembers(found, inspect.isfunction):
        if function.__module__.startswith("equipoise"):
            yield f"{name}.{method}", function


@pytest.mark.parametrize("name", eq.__all__)
def test_the_annotations_of_every_export_and_its_methods_can_be_resolved(name: str) -> None:
    for where, function in callables(name):
        if where not in OPTIONAL:
            typing.get_type_hints(function)
