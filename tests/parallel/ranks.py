"""Groups of processes on this machine, for tests that train on several."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch import multiprocessing as mp

from tests import forks


def in_group(rank: int, work: Callable[..., object], world: int, folder: str, given: tuple) -> None:
    """What one process does: joins the group, works, leaves its result in a file."""
    torch.set_num_threads(1)
    gc.freeze()  # looking up the wrappers that are alive need not go through all that was imported
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=120),
    )
    torch.save(work(rank, world, *given), f"{folder}/{rank}.pt")
    leave_group()


def leave_group() -> None:
    """The last line of every process of a group: one that ends inside it may be aborted.

    Gloo's threads still run when the interpreter takes itself down, and once in some fifty times,
    under load, C++ then calls ``terminate`` (pytorch/pytorch#190489), after all went well.
    """
    distributed.barrier()  # no process may leave while another still needs it
    distributed.destroy_process_group()


def together(
    work: Callable[..., object],
    world: int,
    folder: Path,
    *given: object,
    start_method: str = forks.START_METHOD,
) -> list:
    """What ``work(rank, world, *given)`` returns on each of several processes.

    Forked processes have one seed for the hashes of strings, and so one order of their sets. With
    ``start_method="spawn"`` they have an order each, as on machines of their own: for the battery
    of a file, where it would be seen if what they send each other depended on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mp.start_processes(
        in_group, (work, world, str(folder), given), nprocs=world, start_method=start_method
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]
