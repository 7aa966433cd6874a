from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")]
SHORT = {"pinn_helmholtz": ["--short"]}
NEEDS = {
    "accelerate_loop": "accelerate",
    "deepxde_poisson": "deepxde",
    "fabric_loop": "lightning",
    "hydra_training": "hydra",
    "lightning_module": "lightning",
    "logging_report": "tensorboard",
    "mtadam_accelerate": "accelerate",
    "mtadam_lightning": "lightning",
    "mtadam_transformers": "transformers",
    "pina_poisson": "pina",
    "transformers_trainer": "transformers",
    "tuning_optuna": "optuna",
}
# These read or write no state of the process but torch's default generator, which they seed.
HERE = {
    "accumulation",
    "checkpoints",
    "detector",
    "energy_forces",
    "first_steps",
    "gan",
    "logging_runs",
    "lora_frozen",
    "mixed_precision",
    "recommender",
    "tuning",
    "vae",
}


def shown(example: Path) -> list[str]:
    """What pages say that an example prints: the block ``text`` below its name."""
    below = rf"examples/{example.name}\b(.*?)(?=\Z|examples/\w+\.py)"
    parts = [re.findall(below, page, flags=re.DOTALL) for page in PAGES]
    blocks = [re.search(r"```text\n(.*?)```", part, re.DOTALL) for found in parts for part in found]
    return [block[1] for block in blocks if block]


def words(text: str) -> str:
    """A text without its numbers, which differ from machine to machine, and its spacing."""
    numberless = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", text)
    return " ".join(numberless.split())


def check(example: Path, printed: str) -> None:
    assert printed
    for block in shown(example):
        assert words(block) in words(printed), f"a page shows of {example.name}:\n{block}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", [e for e in EXAMPLES if e.stem not in HERE], ids=lambda path: path.stem
)
def test_every_example_runs_and_prints_as_written(example, tmp_path) -> None:
    framework = NEEDS.get(example.stem)
    if framework is not None and importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    done = subprocess.run(
        [sys.executable, example, *SHORT.get(example.stem, [])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check(example, done.stdout or done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HERE))
def test_every_example_without_a_framework_runs_and_prints_as_written(name, capsys) -> None:
    example = ROOT / "examples" / f"{name}.py"
    runpy.run_path(str(example), run_name="__main__")
    check(example, capsys.readouterr().out)


def test_there_are_examples() -> None:
    assert {"gan", "pinn_lbfgs", *NEEDS, *HERE} <= {path.stem for path in EXAMPLES}


def test_every_example_of_ours_has_a_page() -> None:
    assert all(any(f"examples/{name}.py" in page for page in PAGES) for name in {*HERE, *NEEDS})


def test_every_block_of_a_page_says_what_it_holds() -> None:
    fences = [re.findall(r"^```(.*)$", page, flags=re.MULTILINE) for page in PAGES]
    assert all(all(found[::2]) and not any(found[1::2]) for found in fences)


def test_the_notebook_holds_no_output_and_runs_from_top_to_bottom() -> None:
    notebook = json.loads((ROOT / "examples" / "play.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    names = {"__name__": "__main__"}
    for cell in cells:
        exec("".join(cell["source"]), names)  # noqa: S102
    assert names["diagnosis"].verdict
