"""`results.jsonl`: one line for each finished run, safe against a process killed at any moment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.refusal import RequestError

FILE_NAME = "results.jsonl"
Number: TypeAlias = float | None
"""``None`` stands for a value that was absent or not finite: JSON has neither."""

RunKey: TypeAlias = tuple[str, TrainingOptions, str, int]


@dataclass(frozen=True)
class ProblemFacts:
    """What a report must know of a problem when its code is not at hand.

    Args:
        name: The problem's name.
        description: One sentence.
        metric: What was measured.
        higher_is_better: Whether a larger metric is a better one.
        labels: What some methods' rows are called.
    """

    name: str
    description: str
    metric: str
    higher_is_better: bool
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trajectory:
    """What was recorded every few steps of a run.

    Args:
        steps: ``[K]``, the numbers of the steps, from 1.
        losses: ``[K]`` values for each loss, on the batch of that step.
        weights: ``[K]`` weights for each loss, as applied in that step.
    """

    steps: list[int]
    losses: dict[str, list[Number]]
    weights: dict[str, list[Number]]


@dataclass(frozen=True)
class Run:
    """One finished run.

    Args:
        problem: What was trained.
        options: How.
        balancer: The method's label.
        seed: The seed.
        metric: The metric after the last step.
        metric_steps: ``[M]``, the steps after which the metric was measured, from 0.
        metric_curve: ``[M]``, its values.
        trajectory: Losses and weights.
        seconds: How long the run took.
    """

    problem: ProblemFacts
    options: TrainingOptions
    balancer: str
    seed: int
    metric: Number
    metric_steps: list[int]
    metric_curve: list[Number]
    trajectory: Trajectory
    seconds: float

    @property
    def key(self) -> RunKey:
        """What makes two runs the same run."""
        return self.problem.name, self.options, self.balancer, self.seed

    def to_line(self) -> str:
        """The run as one line of JSON, without its line end."""
        return json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str | bytes) -> Run:
        """The run that `to_line` wrote.

        Raises:
            ValueError: If the line is not whole, or holds something else.
        """
        fields = json.loads(line)
        try:
            fields["problem"] = ProblemFacts(**fields["problem"])
            fields["options"] = TrainingOptions(**fields["options"])
            fields["trajectory"] = Trajectory(**fields["trajectory"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a run: {error}") from error


class Results:
    """The finished runs of one folder.

    Args:
        folder: Where `results.jsonl` is or will be; made by the first `append`.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def read(self) -> list[Run]:
        """The finished runs, oldest first; where one was run twice, the later counts.

        A torn last line, left by a killed process, is no finished run and is passed over.

        Raises:
            RequestError: If a line before the last cannot be read.
        """
        whole, torn = self._split()
        lines = whole.splitlines() + ([torn] if _is_run(torn) else [])
        runs = {run.key: run for run in map(self._parse, range(len(lines)), lines)}
        return list(runs.values())

    def append(self, run: Run) -> None:
        """Adds a run; when this returns, it is on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.repair()
        with self.path.open("ab") as file:
            file.write(run.to_line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def repair(self) -> bool:
        """Completes or cuts off a torn last line; returns whether there was one."""
        whole, torn = self._split()
        if not torn:
            return False
        with self.path.open("r+b") as file:
            file.truncate(len(whole))
            if _is_run(torn):
                file.seek(0, os.SEEK_END)
                file.write(torn + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return True

    def _split(self) -> tuple[bytes, bytes]:
        """The whole lines, and what stands after the last line end."""
        content = self.path.read_bytes() if self.path.exists() else b""
        end = content.rfind(b"\n") + 1
        return content[:end], content[end:]

    def _parse(self, index: int, line: bytes) -> Run:
        try:
            return Run.from_line(line)
        except ValueError as error:
            raise RequestError(
                f"{self.path}, line {index + 1} cannot be read ({error}); delete that line."
            ) from error


def _is_run(line: bytes) -> bool:
    try:
        Run.from_line(line)
    except ValueError:
        return False
    return True
