from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

import equipoise as eq
from equipoise.monitor.history import RecordError, read_history
from equipoise.monitor.watch import view, watch


def shown(folder, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    watch(folder, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_loss_has_its_line_with_nothing_cut_at_any_width(run_of, width) -> None:
    text = shown(run_of(steps=60), width)
    lines = text.splitlines()
    assert lines[0].startswith("run  GradNorm  step 58")
    for name in ("near", "far", "sky"):
        assert any(line.startswith(name) for line in lines)
    assert "…" not in text
    assert max(map(len, lines)) <= width


def test_names_are_text_and_no_markup(tmp_path) -> None:
    balancer = eq.Equal(["[red]", "b"])
    recorder = eq.Recorder(balancer, tmp_path)
    balancer.backward(dict(zip(balancer.names, losses(), strict=True)))
    assert len(recorder.history().entries) == 1
    assert "[red]" in shown(tmp_path, 80)


def losses():
    weight = torch.ones(2, requires_grad=True)
    return weight.sum(), weight.prod()


def test_a_terminal_is_shown_what_a_training_writes_meanwhile(tmp_path, train) -> None:
    balancer = eq.GradNorm(["near", "far", "sky"])
    recorder = eq.Recorder(balancer, tmp_path / "run", every=1)
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    looks = iter(range(3))

    def going() -> bool:
        look = next(looks, None)
        if look is not None:
            train(balancer, 2)
        return look is not None

    (tmp_path / "run" / "record.jsonl").unlink()
    watch(tmp_path / "run", console, pause=0.0, going=going)
    text = console.file.getvalue()
    assert "Waiting for a record in" in text
    assert [f"step {step}" in text for step in (1, 3, 5)] == [True, True, True]
    assert len(recorder.history().entries) == 6


def test_a_pipe_waits_for_nobody(tmp_path) -> None:
    with pytest.raises(RecordError, match="holds no record yet"):
        shown(tmp_path, 80)


def test_a_record_of_the_header_alone_is_shown(run_of) -> None:
    folder = run_of(steps=1)
    path = folder / "record.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert "has taken no step yet" in str(view(read_history(folder), 80))
