"""A step of a balancer as an `Entry`, fetched from its device at once."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from equipoise.monitor.entry import Entry
from equipoise.monitor.probe import Found
from equipoise.monitor.subject import Subject, priorities_of, skipped_of
from equipoise.record import Record


def entry_of(balancer: Subject, record: Record, step: int, found: Found | None) -> Entry:
    """What is kept of a step.

    Args:
        balancer: Whose step it was, just now.
        record: Its record.
        step: How many came before it.
        found: What was measured for the record, if anything was.
    """
    priorities = priorities_of(balancer)
    norms, cosines = (record if found is None else found).norms, _pairs_of(found or record)
    parts = {
        "losses": record.losses,
        "weights": record.weights,
        "priorities": torch.ones_like(record.losses) if priorities is None else priorities,
        "skipped": skipped_of(balancer, record.losses),
        "norms": norms,
        "cosines": cosines,
    }
    there = {name: part for name, part in parts.items() if part is not None}
    return Entry(
        step=step,
        time=time.time(),
        present=list(record.present),
        measured=found is not None,
        **_fetched(there, record.losses.device),
    )


def _pairs_of(what: Record | Found) -> Tensor | None:
    """``[T (T - 1) / 2]`` cosines, in the order of `pair_names`."""
    if what.cosines is None:
        return None
    count, device = len(what.cosines), what.cosines.device
    rows, columns = torch.triu_indices(count, count, offset=1, device=device)
    return what.cosines[rows, columns]


def _fetched(parts: dict[str, Tensor], device: torch.device) -> dict[str, list[float]]:
    """The same as numbers, in one transfer."""
    flat = torch.cat([part.detach().to(device, torch.float64) for part in parts.values()])
    numbers = iter(flat.tolist())
    return {name: [next(numbers) for _ in range(len(part))] for name, part in parts.items()}
