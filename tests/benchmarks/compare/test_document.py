"""What `docs/comparing.md` shows can be asked for as written."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from equipoise.benchmarks.compare.optimizers import OPTIMIZERS
from equipoise.benchmarks.compare.outline import outline, stated
from equipoise.benchmarks.compare.plan import read_plan
from equipoise.cli import compare
from tests.benchmarks import tuned

DOCUMENT = (Path(__file__).parents[3] / "docs" / "comparing.md").read_text(encoding="utf-8")


def test_its_plan_can_be_read(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    path = tmp_path / "plan.yaml"
    path.write_text(block)
    plan = stated(read_plan(path), tuned.problem())
    found = outline(plan)
    assert found.options.steps == 600
    assert [method.name for method in found.methods] == [
        "equal", "right", "firstvalue", "randomweights", "gradnorm", "mtadam"
    ]  # fmt: skip
    assert found.search.rates == (3e-4, 1e-3)


def test_its_options_are_those_of_the_command():
    shown = set(re.findall(r"--([a-z]+(?:-[a-z]+)*)", DOCUMENT))
    known = {name.replace("_", "-") for name in inspect.signature(compare).parameters}
    assert len(shown) > 10
    assert shown <= known


def test_its_optimizers_are_those_there_are():
    (shown,) = re.findall(r"--optimizer ([a-z|]+)", DOCUMENT)
    assert shown.split("|") == list(OPTIMIZERS)
