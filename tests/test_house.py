"""The house is as `docs/architecture.md` says: rooms, imports, names, sizes."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import quantiles

import pytest

import equipoise as eq
from equipoise.registry import balancer_class

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "equipoise"
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = sorted(SOURCE.rglob("*.py"))

# The tree in the document, from the top down: `  name.py   what it is` or `  folder/   ...`.
TREE = DOCUMENT.partition("src/equipoise/\n")[2].partition("```")[0]
ROOMS = re.findall(r"^  ([a-z_]+(?:\.py|/)) ", TREE, re.MULTILINE)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def module(file: Path) -> str:
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(file): file for file in FILES}


def imported(file: Path) -> Iterator[str]:
    """The modules of the house that a file imports, anywhere in it, for types or for use."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written from the top"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from {name if name in MODULES else node.module for name in names} & set(MODULES)


def room(name: str) -> str:
    parts = name.split(".")[1:]
    if not parts:
        return "__init__.py"
    return f"{parts[0]}/" if (SOURCE / parts[0]).is_dir() else f"{parts[0]}.py"


def test_the_document_names_every_room_once() -> None:
    there = {path.name for path in SOURCE.glob("*.py")}
    there |= {f"{path.name}/" for path in SOURCE.iterdir() if list(path.glob("*.py"))}
    assert sorted(ROOMS) == sorted(there)


def test_every_file_and_room_that_the_document_points_to_exists() -> None:
    pointed = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", DOCUMENT))
    assert len(pointed) > 20
    missing = [path for path in pointed if not ((SOURCE / path).exists() or (ROOT / path).exists())]
    assert not missing


def test_imports_run_downwards_those_for_types_too() -> None:
    height = {name: -place for place, name in enumerate(ROOMS)}
    upwards = [
        f"{module(file)} imports {name}, which lies above it"
        for file in FILES
        for name in imported(file)
        if height[room(name)] > height[room(module(file))]
    ]
    assert not upwards, "\n".join(upwards)


def test_no_imports_run_in_a_circle() -> None:
    arrows = {module(file): set(imported(file)) - {module(file)} for file in FILES}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", eq.list_balancers())
def test_a_method_lies_in_the_file_of_its_name_and_has_a_test_file(name) -> None:
    file = Path(inspect.getfile(balancer_class(name)))
    assert file.stem.replace("_", "") == name
    test = ROOT / "tests" / file.parent.name / f"test_{file.name}"
    assert test.exists(), f"{name} is tested nowhere; write {test.relative_to(ROOT)}"


@pytest.mark.parametrize("name", eq.optim.__all__)
def test_an_optimizer_lies_in_the_file_of_its_name_and_has_a_test_file(name) -> None:
    file = Path(inspect.getfile(getattr(eq, name)))
    assert file.stem.replace("_", "") == name.lower()
    assert (ROOT / "tests" / "optim" / f"test_{file.name}").exists()


def longest(sizes: dict[str, int]) -> str:
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return "\n".join(f"{size:5} {name}" for name, size in ordered[: len(ordered) // 10 + 1])


def ninetieth(sizes: Sequence[int]) -> float:
    return quantiles(sizes, n=10, method="inclusive")[-1]


def code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its docstring."""
    total = function.end_lineno - function.lineno + 1
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    return total - (first.end_lineno - first.lineno + 1 if documented else 0)


def test_functions_are_short() -> None:
    sizes = {
        f"{file.relative_to(SOURCE)}:{node.lineno} {node.name}": code(node)
        for file in FILES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    found = ninetieth(list(sizes.values()))
    assert found <= 17, f"of {len(sizes)} functions p90 is {found} lines\n{longest(sizes)}"


def test_files_are_short() -> None:
    sizes = {
        str(file.relative_to(SOURCE)): len(file.read_text(encoding="utf-8").splitlines())
        for file in FILES
    }
    sizes = {name: size for name, size in sizes.items() if size > 2}
    found = ninetieth(list(sizes.values()))
    assert found <= 225, f"of {len(sizes)} files p90 is {found} lines\n{longest(sizes)}"


# What a user wants of the losses has one word for each kind of want, in a table of the document.
WANTS = re.findall(r"^\| \*\*(\w+)\*\* \| (.+?) \|", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("word", sorted({word for word, _ in WANTS} - {"priorities"}))
def test_the_document_names_all_whose_word_it_is(word) -> None:
    listed = {name for key, row in WANTS if key == word for name in re.findall(r"`(\w+)`", row)}
    kinds = {name: getattr(eq, name) for name in eq.__all__ if isinstance(getattr(eq, name), type)}
    taking = {
        name
        for name, kind in kinds.items()
        if word in getattr(kind.__init__, "__annotations__", ())
    }
    assert listed == taking


PRIVATE = re.compile(r"_[A-Za-z]\w*")


def private_names(file: Path) -> tuple[set[str], set[str]]:
    """The private names that a file defines, and those that it asks of objects and modules."""
    own, asked = set(), set()
    for node in ast.walk(tree(file)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                own.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                own.add(name)
            case ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                asked.add(name)
            case ast.ImportFrom(module=str(path), names=names):
                asked |= {*path.split("."), *(alias.name for alias in names)}
            case ast.Import(names=names):
                asked |= {part for alias in names for part in alias.name.split(".")}
    return own, {name for name in asked if PRIVATE.fullmatch(name)}


def test_private_names_of_torch_stand_where_the_document_says() -> None:
    names = {file: private_names(file) for file in FILES}
    ours = set().union(*(own for own, _ in names.values()))
    found = defaultdict(set)
    for file, (_, asked) in names.items():
        for name in asked - ours:
            found[name].add(str(file.relative_to(SOURCE)))
    rows = re.findall(r"^\| `(_\w+)` \| (.+?) \|", DOCUMENT, re.MULTILINE)
    listed = {name: set(re.findall(r"`([^`]+)`", files)) for name, files in rows}
    wrong = [
        f"| `{name}` | {', '.join(f'`{file}`' for file in sorted(found[name]))} | ... |"
        for name in sorted(found.keys() | listed.keys())
        if found[name] != listed.get(name, set())
    ]
    assert not wrong, "the table of private names should say:\n" + "\n".join(wrong)
