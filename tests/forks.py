"""Processes that tests start, forked from one that has imported what takes seconds."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess

# macOS does not let a fork use what its parent may have begun to; each process imports there.
START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"

_processes = multiprocessing.get_context(START_METHOD)
_processes.set_forkserver_preload(
    [
        "pytest",
        "tests.methods",
        "tests.models",
        "torch._dynamo",  # what every optimizer imports at its first step
        "torch.distributed.checkpoint.state_dict",
        "torch.distributed.fsdp",
        "torch.nn.parallel",
    ]
)


def start(work: Callable[..., object], *given: object) -> BaseProcess:
    """A process that calls ``work(*given)``; it may be killed."""
    process = _processes.Process(target=work, args=given)
    process.start()
    return process
