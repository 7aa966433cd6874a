"""A golden that the recorder writes is one that the tests can follow."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import equipoise as eq
from tests import golden

SCRIPT = Path(__file__).parents[2] / "scripts" / "record_golden.py"
RECORDER = runpy.run_path(str(SCRIPT))

# The formula of DWA in plain Python, state and all.
REFERENCE = """
import math

ABOUT = {
    "method": "DWA",
    "variant": "window=1",
    "source": {"project": "by hand", "version": "1", "where": "reference"},
    "hyperparameters": {"temperature": 2.0},
    "input": ["losses"],
    "output": ["weights"],
    "rtol": 1e-9,
    "atol": 1e-12,
    "notes": "Written for a test.",
}
COUNT = 6
past = []

def reference(losses):
    weights = [1.0] * len(losses)
    if len(past) > 1:
        parts = [math.exp(new / old / 2.0) for new, old in zip(past[-1], past[-2])]
        weights = [len(parts) * part / sum(parts) for part in parts]
    past.append(losses.tolist())
    return weights
"""


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    reference = folder / "reference.py"
    reference.write_text(text, encoding="utf-8")
    command = [sys.executable, SCRIPT, reference, folder / "dwa.json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_recorded_trajectory_is_loaded_and_followed(tmp_path, monkeypatch) -> None:
    done = run(tmp_path, REFERENCE)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    (name,) = golden.names()
    recorded = golden.load(name)
    assert (recorded.method, recorded.dtype, len(recorded.steps)) == ("DWA", "float64", 6)
    balancer = eq.DWA(3, window=1, temperature=recorded.hyperparameters["temperature"])
    for step in recorded.steps:
        weights = balancer.weigh(golden.tensor(step["losses"]))
        golden.assert_matches(recorded, weights, step["weights"])


def about(**changed: object) -> dict[str, object]:
    usual = {
        "method": "Mean",
        "variant": "default",
        "source": {"project": "p", "version": "v", "where": "w"},
        "hyperparameters": {},
        "input": ["jacobian"],
        "output": ["gradient", "weights"],
        "rtol": 1e-9,
        "atol": 1e-12,
    }
    return {**usual, **changed}


def mean(jacobian: torch.Tensor) -> dict[str, object]:
    weights = torch.full((len(jacobian),), 1 / len(jacobian), dtype=torch.float64)
    return {"gradient": (weights @ jacobian).numpy(), "weights": weights}


def test_several_outputs_of_a_jacobian_are_kept_exactly() -> None:
    content = RECORDER["record"](about(), mean, count=8, losses=2, width=5)
    assert len(content["steps"]) == 8
    for step in content["steps"]:
        jacobian = golden.tensor(step["jacobian"])
        assert jacobian.shape == (2, 5)
        assert step["gradient"] == mean(jacobian)["gradient"].tolist()
        assert "losses" not in step


def test_steps_of_ones_own_are_recorded_with_their_random_numbers() -> None:
    steps = [{"losses": torch.tensor([1.0, 2.0]), "random": [1, 0]}]
    said = about(input=["losses"], output=["loss"])
    content = RECORDER["record"](said, lambda losses: losses.sum(), steps)
    assert content["steps"] == [{"losses": [1.0, 2.0], "random": [1, 0], "loss": 3.0}]


def test_made_up_steps_hold_what_methods_fear() -> None:
    grams = [eq.Gradients(s["jacobian"]) for s in RECORDER["made_up"](4, 3, 8, seed=0)]
    cosines = [gradients.cosines()[0, -1].item() for gradients in grams]
    assert cosines[1] < -0.99
    assert cosines[2] > 0.99
    norms = grams[3].norms()
    assert norms[0] > 50 * norms[1]


def test_a_reference_may_write_into_what_it_is_given() -> None:
    said = about(input=["losses"], output=["weights"])
    content = RECORDER["record"](said, lambda losses: losses.zero_(), count=1)
    (step,) = content["steps"]
    assert min(step["losses"]) > 0
    assert step["weights"] == [0.0] * 3


@pytest.mark.parametrize(
    ("changed", "reference", "says"),
    [
        ({"seed": 1}, mean, "seed"),
        ({"source": {"project": "p"}}, mean, "project, version and where"),
        ({"input": ["values"]}, mean, "values"),
        ({"input": ["gradients"]}, mean, "gives no"),
        ({"output": ["gradient"]}, mean, "`output` says otherwise"),
        ({"output": ["weights"]}, lambda jacobian: jacobian / 0, "finite numbers"),
    ],
)
def test_what_the_format_does_not_hold_is_refused(changed, reference, says) -> None:
    with pytest.raises(ValueError, match=says):
        RECORDER["record"](about(**changed), reference)


def test_a_file_without_a_reference_is_told_what_it_lacks(tmp_path) -> None:
    done = run(tmp_path, REFERENCE.replace("def reference", "def formula"))
    assert done.returncode == 1
    assert "defines no `reference`" in done.stderr
