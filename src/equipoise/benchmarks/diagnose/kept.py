"""`diagnosis.json`: a problem's diagnosis beside the results of its comparison."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from equipoise.benchmarks.compare.run import Experiment
from equipoise.benchmarks.schema import read_kept
from equipoise.monitor.diagnosis_summary import Summary
from equipoise.pages.files import write_atomically

FILE_NAME = "diagnosis.json"


@dataclass(frozen=True)
class _Kept:
    """What the file holds."""

    experiment: Experiment
    summary: Summary


def read_diagnosis(folder: Path, experiment: Experiment) -> Summary | None:
    """The diagnosis kept in a folder for an experiment.

    Args:
        folder: Where `write_diagnosis` wrote it.
        experiment: What is trained, and how.

    Returns:
        The diagnosis; ``None`` where there is none, or that of something else.

    Raises:
        RequestError: If the file is there and cannot be read.
    """
    kept = read_kept(_Kept, folder / FILE_NAME)
    return kept.summary if kept and kept.experiment == experiment else None


def write_diagnosis(folder: Path, experiment: Experiment, summary: Summary) -> None:
    """Keeps a diagnosis; that of an earlier experiment gives way.

    Args:
        folder: The comparison's folder.
        experiment: What is trained, and how.
        summary: The diagnosis.
    """
    kept = json.dumps(asdict(_Kept(experiment, summary)), indent=2)
    write_atomically(folder / FILE_NAME, kept)
