"""The peak of allocated memory, as torch's own allocators report it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.profiler import ProfilerActivity, profile


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """How far allocated memory rose while something ran.

    Args:
        run: What to run, once.
        device: Whose memory is watched.

    Returns:
        Bytes at the highest point, less those allocated before. What was allocated before must not
        be freed meanwhile: on a CPU that would go unseen. Memory that is not torch's (numpy's, a
        solver's) is not seen.

    Example:
        >>> peak_memory(lambda: torch.zeros(256), torch.device("cpu"))
        1024
    """
    return _peak_on_cuda(run, device) if device.type == "cuda" else _peak_on_cpu(run)


def _peak_on_cuda(run: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before: int = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    risen: int = torch.cuda.max_memory_allocated(device) - before
    return risen


def _peak_on_cpu(run: Callable[[], object]) -> int:
    """Every allocation and release of torch's CPU allocator is an event of its profiler."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it tells the terminal that it starts
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes: list[int] = [
        event["args"]["Bytes"] for event in events if event.get("name") == "[memory]"
    ]
    return max(accumulate(changes, initial=0))
