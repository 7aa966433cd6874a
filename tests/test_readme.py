"""What the README shows runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import equipoise as eq
from tests.models import MultiHead, batch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


class Named(MultiHead):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(("depth", "normals", "semantics"), super().forward(x), strict=True))


def training() -> dict[str, object]:
    return {"model": Named(3), "loader": [batch() for _ in range(5)], "eq": eq}


def test_the_changed_lines_train_as_written() -> None:
    names = training()
    before = [parameter.clone() for parameter in names["model"].parameters()]
    exec(BLOCKS[0], names)  # noqa: S102
    after = names["model"].parameters()
    assert any(not torch.equal(p, q) for p, q in zip(after, before, strict=True))
    assert isinstance(names["optimizer"], eq.MTAdam)


def test_the_balancer_runs_as_written() -> None:
    names = training()
    names["losses"] = names["model"](batch())
    exec(BLOCKS[1], names)  # noqa: S102
    assert names["balancer"].last is not None


def test_the_diagnosis_runs_as_written() -> None:
    names = training()
    exec(BLOCKS[2], names)  # noqa: S102
    assert names["diagnosis"].batches == 5


def test_every_file_that_the_readme_points_to_exists() -> None:
    root = Path(__file__).parents[1]
    pointed = re.findall(r"\]\((?!http)([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    assert pointed
    assert all((root / (link or image)).exists() for link, image in pointed)
