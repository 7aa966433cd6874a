"""A bar is shown where somebody sees it, and changes nothing about what is gone through."""

from __future__ import annotations

import sys
from io import StringIO

import pytest

from equipoise.monitor.progress import shown


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [StringIO, Terminal])
@pytest.mark.parametrize("total", [0, 3])
def test_all_items_come_in_order(stream, total, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    assert list(shown(iter([1, 2, 3]), total, "looking")) == [1, 2, 3]


def test_only_a_terminal_gets_a_bar(monkeypatch):
    for stream, seen in ((StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        list(shown(range(3), 3, "looking"))
        assert ("looking" in stream.getvalue()) == seen
