"""What the pages show runs as written; scripts that they include are run by `test_examples`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import equipoise as eq
from tests.models import MultiHead, batch

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


class Named(MultiHead):
    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(len(names))
        self.names = names

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.names, super().forward(x), strict=True))


@pytest.mark.parametrize("page", ["index.md", "start.md"])
def test_the_changed_lines_train_as_written(page) -> None:
    (written,) = (block for block in blocks(page) if "for batch in loader" in block)
    loader = [batch() for _ in range(3)]
    names = {"eq": eq, "model": Named(("period", "tension", "energy")), "loader": loader}
    exec(written, names)  # noqa: S102
    assert isinstance(names["optimizer"], eq.MTAdam)


def test_what_every_balancer_does_runs_as_written() -> None:
    (written,) = blocks("concepts.md")
    model = Named(("depth", "normals"))
    balancer = eq.GradNorm(model.names)
    for line in written.splitlines():
        exec(line, {"balancer": balancer, "losses": model(batch()), "eq": eq})  # noqa: S102


OURS = [block.partition("# ours")[2].partition("\n")[2] for block in blocks("moving.md")]


@pytest.mark.parametrize("written", [code for code in OURS if code])
def test_our_lines_in_the_place_of_others_run_as_written(written) -> None:
    construct, backward, *_ = written.splitlines()
    names = {"eq": eq, "losses": [1, 2, 3]}
    exec(construct, names)  # noqa: S102
    losses = Named(names["balancer"].names)(batch())
    named = losses | {f"loss_{i}": loss for i, loss in enumerate(losses.values(), start=1)}
    exec(backward, {**names, **named, "losses": losses})  # noqa: S102
    assert names["balancer"].last is not None


def test_methods_that_pages_name_exist() -> None:
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        missing = [name for name in re.findall(r"\beq\.(\w+)", text) if not hasattr(eq, name)]
        assert not missing, page.name
