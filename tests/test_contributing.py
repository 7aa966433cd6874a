"""CONTRIBUTING.md's recipe, followed to the letter in a copy of the house, gives a method."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import equipoise as eq

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPE = DOCUMENT.split("## Adding a method, worked through")[1].split("\n## ")[0]
STEPS = re.split(r"^\*\*(?=\d\. )", RECIPE, flags=re.MULTILINE)
METHOD = "src/equipoise/weighting/inverse_square.py"
PUBLIC = "src/equipoise/weighting/__init__.py"
TEST = "tests/weighting/test_inverse_square.py"
NAME = "inversesquare"
COPIED = ("src", "tests", "scripts", "docs", "README.md", "pyproject.toml")


def blocks(path: str, language: str = "python") -> list[str]:
    """The blocks of the step whose text names that file."""
    (step,) = (step for step in STEPS if f"`{path}`" in step)
    return re.findall(rf"```{language}\n(.*?)```", step, flags=re.DOTALL)


def insert(file: Path, line: str, before: str) -> None:
    """Puts a line in its place, as a contributor does by hand."""
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1
    file.write_text(text.replace(before, line + before), encoding="utf-8")


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of this house to which the recipe was applied."""
    copy = tmp_path_factory.mktemp("house")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    for path in (METHOD, TEST):
        (copy / path).write_text(blocks(path)[0], encoding="utf-8")
    imported, exported = blocks(PUBLIC)
    insert(copy / PUBLIC, imported, "from equipoise.weighting.log_sum import")
    insert(copy / PUBLIC, exported, '    "LogSum",\n')
    return copy


def run(house: Path, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(house / "src"), "MYPYPATH": str(house / "src")}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=house, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


@pytest.mark.parametrize("path", [METHOD, TEST])
def test_the_recipe_names_files_that_are_not_there_yet(path) -> None:
    assert not (ROOT / path).exists()
    assert (ROOT / path).parent.is_dir()


def test_the_recipes_own_tests_and_example_pass(house) -> None:
    run(house, "pytest", "-q", "-p", "no:cacheprovider", METHOD, TEST)


@pytest.mark.slow
def test_the_method_passes_the_batteries_over_all_methods(house) -> None:
    run(house, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_methods.py", "-k", NAME)


def test_the_house_is_in_order_with_the_method(house) -> None:
    files = ["tests/test_registry.py", "tests/test_house.py", "tests/docs/test_method_pages.py"]
    run(house, "pytest", "-q", "-p", "no:cacheprovider", *files)


@pytest.mark.slow
def test_the_recipe_is_formatted_linted_and_typed(house) -> None:
    pytest.importorskip("mypy")
    run(house, "ruff", "format", "--check", METHOD, TEST, PUBLIC)
    run(house, "ruff", "check", METHOD, TEST, PUBLIC)
    cache = str(ROOT / ".mypy_cache" / "recipe")
    run(house, "mypy", "--cache-dir", cache, METHOD)


def test_what_the_recipe_says_is_declared_exists() -> None:

    tables = re.findall(r"^\| `([a-z_]+)` \|", RECIPE, flags=re.MULTILINE)
    assert tables
    assert all(hasattr(eq.Aggregation, name) for name in tables)
    asked = re.findall(r"`(?:gradients\.)?([a-z_]+)\(\w*\)`", RECIPE.partition("may ask for")[2])
    assert {"norms", "gram", "cosines", "matrix", "columns", "per_loss"} <= set(asked)
    assert all(hasattr(eq.Gradients, name) for name in asked)
