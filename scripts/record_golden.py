"""Records a golden trajectory from a reference: `record_golden.py REFERENCE.py GOLDEN.json`.

A reference is a Python file that calls the authors' code, for one step after the other:

    ABOUT = {
        "method": "InverseSquare",
        "variant": "beta=0.9",
        "source": {"project": "inverse-square", "version": "1.0", "where": "weights.py"},
        "hyperparameters": {"beta": 0.9, "eps": 1e-8},
        "input": ["losses"],
        "output": ["weights"],
        "rtol": 1e-9,
        "atol": 1e-12,
        "notes": "",
    }

    def reference(losses):
        return authors_weights(losses)

`reference` is given what ``input`` names, by keyword, as float64 tensors: ``losses`` of shape
``[T]``, ``jacobian`` of shape ``[T, P]``. It returns what ``output`` names: a mapping, or the one
thing itself, as tensors, arrays or nested lists. State it keeps itself.

``STEPS``, a list of mappings, is what the steps are given; where the file has none, losses fall and
wander from ``LOSSES`` (3) terms and ``WIDTH`` (8) columns over ``COUNT`` (15) steps, with gradients
in conflict, nearly parallel, and one a thousand times larger among them, drawn from ``SEED`` (0).
`tests/goldens/FORMAT.md` explains the file that is written.
"""

from __future__ import annotations

import json
import math
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

KEYS = ("method", "variant", "source", "hyperparameters", "input", "output", "rtol", "atol")
INPUTS = ("losses", "jacobian", "gradients")
SOURCE = {"project", "version", "where"}

Step = Mapping[str, Any]


def made_up(count: int, losses: int, width: int, seed: int) -> list[dict[str, Tensor]]:
    """Steps of falling losses with gradients as methods meet them, and as they fear them.

    Args:
        count: How many steps.
        losses: ``T``.
        width: ``P``.
        seed: Of the random numbers.

    Returns:
        For each step ``losses``, ``[T]``, and ``jacobian``, ``[T, P]``, in float64.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scales = torch.logspace(-0.5, 0.5, losses, dtype=torch.float64)
    steps = []
    for number in range(count):
        values = scales * torch.exp(-0.1 * number + 0.2 * draw(losses))
        rows = _hardened(scales[:, None] * draw(losses, width), number, 0.01 * draw(width))
        steps.append({"losses": values, "jacobian": rows})
    return steps


def _hardened(rows: Tensor, number: int, noise: Tensor) -> Tensor:
    """Every fourth step as drawn; the others in conflict, nearly parallel, or far apart in size."""
    if number % 4 == 1:
        rows[-1] = noise - rows[0]
    elif number % 4 == 2:
        rows[-1] = noise + 2 * rows[0]
    elif number % 4 == 3:
        rows[0] *= 1000
    return rows


def record(
    about: Step, reference: Callable[..., Any], steps: Sequence[Step] | None = None, **made: int
) -> dict[str, Any]:
    """The content of a golden file.

    Args:
        about: What the file says of the method, its source and how closely to follow it.
        reference: Computes one step.
        steps: What each step is given; ``None`` makes steps up.
        made: ``count``, ``losses``, ``width`` and ``seed`` of steps that are made up.

    Raises:
        ValueError: If something is not said, or the reference returns something else than it says
            or what is not finite.
    """
    check(about)
    if steps is None:
        steps = made_up(**{"count": 15, "losses": 3, "width": 8, "seed": 0, **made})
    recorded = [_step(number, about, reference, given) for number, given in enumerate(steps)]
    return {"dtype": "float64", "notes": "", **about, "steps": recorded}


def check(about: Step) -> None:
    """Raises a ``ValueError`` where `about` lacks a key of the format, or has one more."""
    lacking = [key for key in KEYS if key not in about]
    unknown = sorted(about.keys() - {*KEYS, "dtype", "notes"})
    if lacking or unknown:
        raise ValueError(f"`ABOUT` lacks {lacking} and has {unknown}, which the format does not.")
    if about["source"].keys() != SOURCE:
        raise ValueError(f"`source` is {about['source']}; it says project, version and where.")
    if not set(about["input"]) <= set(INPUTS):
        raise ValueError(f"`input` is {about['input']}; it names some of {', '.join(INPUTS)}.")


def _step(
    number: int, about: Step, reference: Callable[..., Any], given: Step
) -> dict[str, object]:
    lacking = [name for name in about["input"] if name not in given]
    if lacking:
        raise ValueError(f"Step {number} gives no {lacking}; put it into `STEPS`.")
    shown = {name: given[name] for name in about["input"]}
    found = reference(**{name: _copy(value) for name, value in shown.items()})
    if not isinstance(found, Mapping):
        (name,) = about["output"]
        found = {name: found}
    if found.keys() != set(about["output"]):
        raise ValueError(f"Step {number} returned {sorted(found)}; `output` says otherwise.")
    beside = {name: value for name, value in given.items() if name not in INPUTS}
    plain = {name: _plain(value) for name, value in {**shown, **beside, **found}.items()}
    for name, value in plain.items():
        _check_finite(f"Step {number}: `{name}`", value)
    return plain


def _copy(value: object) -> object:
    """A reference may write into what it is given."""
    return value.clone() if isinstance(value, Tensor) else value


def _plain(value: Any) -> object:  # noqa: ANN401
    """Tensors and arrays as nested lists of numbers."""
    if isinstance(value, Tensor):
        return value.detach().tolist()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _check_finite(where: str, value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; a trajectory holds finite numbers.")
    for inner in value if isinstance(value, list) else ():
        _check_finite(where, inner)


def main() -> None:
    """Runs a reference file and writes what it found."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: record_golden.py REFERENCE.py GOLDEN.json")
    source, target = map(Path, sys.argv[1:])
    given = runpy.run_path(str(source))
    for name in ("ABOUT", "reference"):
        if name not in given:
            raise SystemExit(f"{source} defines no `{name}`; {__file__} says what it holds.")
    names = {"COUNT": "count", "LOSSES": "losses", "WIDTH": "width", "SEED": "seed"}
    made = {argument: given[name] for name, argument in names.items() if name in given}
    try:
        content = record(given["ABOUT"], given["reference"], given.get("STEPS"), **made)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    target.write_text(json.dumps(content), encoding="utf-8")
    print(f"{target}: {len(content['steps'])} steps")


if __name__ == "__main__":
    main()
