"""What a user asks `equipoise compare` for: on the command line, or in a file that repeats it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from equipoise.benchmarks.refusal import RequestError
from equipoise.benchmarks.schema import conform
from equipoise.pages.files import write_atomically
from equipoise.words import did_you_mean

PLAN_NAME = "plan.yaml"


@dataclass(frozen=True)
class Plan:
    """A comparison as it is written down; what is left out is the problem's own.

    Args:
        problem: A problem's name, or ``module:function``.
        balancers: Methods separated by commas, ``all``, or ``baselines`` among them.
        seeds: A count, or the seeds separated by commas.
        epochs: Passes over the data.
        steps: How many, in place of epochs.
        budget: ``600steps`` or ``30s``, in place of epochs.
        batch_size: Samples per step.
        lr: One learning rate, or several separated by commas to choose among.
        optimizer: Its name, in place of the problem's own; options after colons.
        static: How many static weightings are tried.
        retrain: Whether the weights that methods found are trained with again.
        tuning_seeds: With how many seeds is chosen.
        goal: A value of the metric; how likely it is to be reached is reported.
    """

    problem: str = "digits"
    balancers: str | None = None
    seeds: str = "10"
    epochs: int | None = None
    steps: int | None = None
    budget: str | None = None
    batch_size: int | None = None
    lr: str | None = None
    optimizer: str = ""
    static: int = 0
    retrain: bool = False
    tuning_seeds: int | None = None
    goal: float | None = None


def read_plan(path: Path) -> Plan:
    """The plan in a file.

    Args:
        path: YAML with the names of `Plan`. What is separated by commas may also be a list.

    Returns:
        The plan.

    Raises:
        RequestError: If the file cannot be read, or says something else.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, Mapping):
        raise RequestError(f"{path} holds no plan; write for example problem: digits.")
    try:
        return conform(Plan, {name: _as_written(name, value) for name, value in found.items()})
    except ValueError as error:
        raise RequestError(f"{path}: {error}.") from error


def write_plan(folder: Path, plan: Plan) -> None:
    """Saves a plan beside its results.

    Args:
        folder: The comparison's folder.
        plan: What it was asked for, with everything stated.
    """
    said = {name: value for name, value in asdict(plan).items() if value not in (None, "", False)}
    head = "# What the results beside this file are of; repeated by: equipoise compare plan.yaml\n"
    write_atomically(folder / PLAN_NAME, head + yaml.safe_dump(said, sort_keys=False))


def _as_written(name: object, value: object) -> object:
    """A value as it would stand on the command line; YAML may have read numbers, or a list."""
    kinds = {field.name: str(field.type) for field in fields(Plan)}
    if not isinstance(name, str) or name not in kinds:
        hint = did_you_mean(str(name), kinds)
        raise ValueError(f"{name} is unknown.{hint} There are {', '.join(kinds)}")
    if value is None:
        return getattr(Plan(), name)
    if not kinds[name].startswith("str") or isinstance(value, Mapping | bool):
        return value
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value)
    # A list of one seed is that seed, where a number alone would be a count.
    return ",".join(map(str, value)) + ("," if name == "seeds" and len(value) == 1 else "")
