from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
NEEDS = {
    "accelerate_loop": "accelerate",
    "deepxde_poisson": "deepxde",
    "fabric_loop": "lightning",
    "lightning_module": "lightning",
    "mtadam_accelerate": "accelerate",
    "mtadam_lightning": "lightning",
    "mtadam_transformers": "transformers",
    "pina_poisson": "pina",
    "transformers_trainer": "transformers",
}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_every_example_runs_as_written(example, tmp_path) -> None:
    framework = NEEDS.get(example.stem)
    if framework is not None and importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    done = subprocess.run(
        [sys.executable, example],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout or done.stderr


def test_there_are_examples() -> None:
    assert {"gan", "pinn_lbfgs", *NEEDS} <= {path.stem for path in EXAMPLES}
