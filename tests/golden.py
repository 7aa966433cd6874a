"""Reference trajectories: read one from `tests/goldens/`, hold a result to it.

`goldens/FORMAT.md` explains the files.

Example:
    ```python
    @pytest.mark.parametrize("name", names("softadapt_original__*"))
    def test_weights_follow_the_reference(name):
        golden = load(name)
        for step in golden.steps:
            weights = ...
            assert_matches(golden, weights, step["weights"])
    ```
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "goldens"

Numbers: TypeAlias = "float | Sequence[Numbers]"


@dataclass(frozen=True)
class Source:
    """Whose code made a trajectory."""

    project: str
    version: str
    where: str


@dataclass(frozen=True)
class Golden:
    """One method's reference trajectory and how closely to follow it."""

    name: str
    method: str
    variant: str
    source: Source
    hyperparameters: Mapping[str, Any]
    input: tuple[str, ...]
    output: tuple[str, ...]
    dtype: str
    rtol: float
    atol: float
    steps: tuple[Mapping[str, Any], ...]
    notes: str


def names(pattern: str = "*") -> list[str]:
    """Sorted names of the goldens that match a shell pattern.

    Those of `reference_behaviour/` hold nobody to anything and are left out; `load` reads them
    as `"reference_behaviour/<name>"`.

    Raises:
        ValueError: nothing matches: a test parametrised with no name would pass unseen.
    """
    found = sorted(path.stem for path in FOLDER.glob("*.json") if fnmatchcase(path.stem, pattern))
    if not found:
        message = f"no golden matches {pattern!r}; the names are in {FOLDER}"
        raise ValueError(message)
    return found


def load(name: str) -> Golden:
    """The golden of that name (without `.json`).

    Raises:
        FileNotFoundError: there is none.
        TypeError: the file lacks a key of the format, or has one more.
    """
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    content["source"] = Source(**content["source"])
    for key in ("input", "output", "steps"):
        content[key] = tuple(content[key])
    return Golden(name=name, **content)


def tensor(values: Numbers) -> Tensor:
    """Nested lists of numbers as a float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def assert_matches(
    golden: Golden,
    actual: Tensor | Sequence[Tensor] | Numbers,
    expected: Tensor | Sequence[Tensor] | Numbers,
    label: str = "",
) -> None:
    """Fails unless `actual` is `expected` within the golden's own tolerances.

    Args:
        golden: The trajectory whose `rtol` and `atol` apply.
        actual: A float64 tensor, nested numbers, or a list of tensors of different shapes.
        expected: The reference's, in the same arrangement.
        label: Where in the trajectory this is, for the message: `f"step {index} weights"`.
    """
    if isinstance(actual, Sequence) and actual and isinstance(actual[0], Tensor):
        for position, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_matches(golden, one, other, f"{label} [{position}]")
        return
    torch.testing.assert_close(
        actual if isinstance(actual, Tensor) else tensor(actual),
        expected if isinstance(expected, Tensor) else tensor(expected),
        rtol=golden.rtol,
        atol=golden.atol,
        msg=lambda difference: f"{golden.name} {label}: {difference}",
    )
