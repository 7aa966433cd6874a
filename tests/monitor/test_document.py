"""What `docs/recording.md` shows runs as written, and names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import equipoise as eq

TEXT = (Path(__file__).parents[2] / "docs" / "recording.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_every_block_runs_as_written(balancer, train, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        exec(block, names := {"eq": eq, "balancer": balancer})  # noqa: S102
        if "recorder" in names:
            train(balancer, 1)
    assert (tmp_path / "runs" / "a" / "record.jsonl").exists()
    assert not capsys.readouterr().out  # the hook was removed


def test_every_call_that_it_names_exists() -> None:
    called = set(re.findall(r"`recorder\.(\w+)\(", TEXT))
    assert called == {"report", "frame", "track"}
    assert all(hasattr(eq.Recorder, name) for name in called)
