"""A claim: what is said, by whom, and what a comparison must show if it is true."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import yaml

Relation: TypeAlias = Literal["better than", "no worse than", "level with", "worse than"]
"""Level is inside a margin on both sides, no worse on one; see `judging`."""

_EXPECTED = re.compile(rf"(?P<row>.+?) (?P<relation>{'|'.join(get_args(Relation))}) (?P<other>.+)")


@dataclass(frozen=True)
class Expected:
    """What one row of a comparison is beside another one, if the claim is true.

    Args:
        row: The label of a method.
        relation: How it stands.
        other: The label of what it is held against.
    """

    row: str
    relation: Relation
    other: str

    def __str__(self) -> str:
        """As it is written in the file of a claim."""
        return f"{self.row} {self.relation} {self.other}"


@dataclass(frozen=True)
class Claim:
    """A claim and its test.

    Args:
        name: That of its file.
        title: The heading of its page.
        says: The claim, in a sentence or two.
        source: Who says it: authors, year, number, place.
        plan: What `equipoise compare` takes as a plan.
        expected: What the result must show.
        beside: Plans beside the first one, whose rows stand in the same table: by a word that is
            added to their labels in brackets, what of the plan is different.
        margin: A difference that counts as none where a row is to be "no worse than" or "level
            with" another, in the metric's units; default a tenth of what the other one gains over
            the plain sum.
        small: What of the plan is different in the version that takes a minute.
        remarks: What else was tried, and what is to be known of the test. Markdown.
    """

    name: str
    title: str
    says: str
    source: str
    plan: Mapping[str, Any]
    expected: tuple[Expected, ...]
    small: Mapping[str, Any] = field(default_factory=dict)
    remarks: str = ""
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    margin: float | None = None

    def plans(self, *, small: bool) -> dict[str, dict[str, Any]]:
        """All plans, by the word that is added to the labels of their rows; none to the first.

        Args:
            small: Whether a version that takes a minute is enough.
        """
        first = dict(self.plan)
        least = dict(self.small) if small else {}
        return {
            "": first | least,
            **{word: first | dict(other) | least for word, other in self.beside.items()},
        }


def read_claim(path: Path) -> Claim:
    """The claim in a file.

    Args:
        path: YAML with the names of `Claim`, but for ``name``.

    Returns:
        The claim.

    Raises:
        ValueError: If something in it cannot be read.
    """
    found = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    expected = tuple(_read_expected(path, line) for line in found.pop("expected"))
    return Claim(name=path.stem, expected=expected, **found)


def _read_expected(path: Path, line: str) -> Expected:
    parts = _EXPECTED.fullmatch(line)
    if parts is None:
        msg = (
            f"{path}: {line!r} says nothing that can be tested; write a row, one of "
            f"{', '.join(get_args(Relation))}, and another row."
        )
        raise ValueError(msg)
    return Expected(**parts.groupdict())  # type: ignore[arg-type]  # the pattern holds relations
