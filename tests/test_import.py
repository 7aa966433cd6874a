"""`import equipoise` and `python -m equipoise`, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WATCHED = """\
import sys
import numpy, torch
import torch.utils.checkpoint  # which brings SymPy with torch 2.6

started = []
kinds = ("os.fork", "os.posix_spawn", "os.system", "subprocess.", "_thread.start", "socket.")
sys.addaudithook(lambda event, _: started.append(event) if event.startswith(kinds) else None)
before = set(sys.modules)
import equipoise
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
known = {"equipoise", "numpy", "torch", *sys.stdlib_module_names}
assert not started, started
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def imported() -> subprocess.CompletedProcess[str]:
    return python("-c", f"{WATCHED}print(*sorted(loaded - known))")


def test_the_import_starts_nothing_and_says_nothing(imported) -> None:
    assert imported.returncode == 0, imported.stderr
    assert imported.stderr == ""
    assert imported.stdout.count("\n") == 1, "more was printed than this test did"


def test_the_import_waits_for_no_package_but_torch_and_numpy(imported) -> None:
    """SciPy takes longer to import than all of this library, and few methods solve a program."""
    assert imported.stdout.split() == []


def test_a_method_that_solves_a_program_imports_its_solver_by_itself() -> None:
    done = python(
        "-c",
        "import sys, torch, equipoise as eq\n"
        "rows = eq.Gradients(torch.tensor([[1.0, 0.0], [-0.9, 0.3]], dtype=torch.float64))\n"
        "assert 'scipy.optimize' not in sys.modules\n"
        "eq.UPGrad(2).weigh(torch.ones(2, dtype=torch.float64), rows)\n"
        "assert 'scipy.optimize' in sys.modules\n",
    )
    assert done.returncode == 0, done.stderr


def test_the_package_runs_as_a_module() -> None:
    pytest.importorskip("typer")
    done = python("-m", "equipoise", "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: equipoise" in done.stdout
