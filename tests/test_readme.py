"""What the README shows runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import equipoise as eq
from equipoise.registry import balancer_class
from tests.models import MultiHead, batch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


class Named(MultiHead):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(("depth", "normals", "semantics"), super().forward(x), strict=True))


def test_the_one_changed_line_trains_as_written() -> None:
    model = Named(3)
    before = [parameter.clone() for parameter in model.parameters()]
    names = {
        "model": model,
        "loader": [batch() for _ in range(5)],
        "optimizer": torch.optim.Adam(model.parameters()),
    }
    exec(BLOCKS[0], names)  # noqa: S102
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert names["balancer"].last is not None


def test_the_diagnosis_runs_as_written() -> None:
    names = {"model": Named(3), "loader": [batch() for _ in range(5)], "eq": eq}
    exec(BLOCKS[1], names)  # noqa: S102
    assert names["diagnosis"].batches == 5


def test_what_every_balancer_does_runs_as_written() -> None:
    model = Named(3)
    balancer = eq.GradNorm(["depth", "normals", "semantics"])
    for line in BLOCKS[2].splitlines():
        losses = model(batch())
        exec(line, {"balancer": balancer, "losses": losses, "eq": eq})  # noqa: S102


def test_the_optimizer_for_several_losses_runs_as_written() -> None:
    model = Named(3)
    exec(BLOCKS[3], {"model": model, "losses": model(batch()), "eq": eq})  # noqa: S102


def test_every_class_that_the_readme_names_exists() -> None:
    table = README.split("## Which one should I take?")[1].split("## What every balancer does")[0]
    named = set(re.findall(r"`(?:eq\.)?([A-Z]\w+)`", table)) - {"Adam"}
    assert named <= set(eq.__all__)


def test_every_method_has_one_row_in_the_table_of_methods() -> None:
    table = README.split("<!-- methods -->")[1].split("<!-- /methods -->")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    methods = [balancer_class(name).__name__ for name in eq.list_balancers()]
    assert sorted(rows) == sorted([*methods, *eq.optim.__all__])


def test_every_situation_of_the_table_of_choices_names_something_to_take() -> None:
    table = README.split("<!-- choices -->")[1].split("<!-- /choices -->")[0].strip()
    for row in table.splitlines()[2:]:
        _, situation, choice, _ = row.split("|")
        named = re.findall(r"`(?:eq\.)?([A-Z]\w+)`", choice)
        assert named, f"nothing to take for {situation.strip()}"
        assert set(named) <= {*eq.__all__, "Adam"}
