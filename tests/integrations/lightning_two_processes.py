"""Run as a script: Lightning starts it a second time for the other process."""

from __future__ import annotations

import os

import torch
from lightning.pytorch import Trainer
from torch import distributed
from torch.utils.data import DataLoader

from tests.integrations.loops import balancer_of, batches, difference, plain_loop
from tests.integrations.test_lightning import Automatic, Manual, Returned
from tests.parallel.ranks import leave_group

CASES = [
    (Automatic, "gradnorm", "ddp"),
    (Automatic, "graddrop", "ddp"),
    (Automatic, "pcgrad", "ddp_find_unused_parameters_true"),
    (Automatic, "softadapt", "ddp_find_unused_parameters_true"),
    (Returned, "mgda", "ddp"),
    (Returned, "uncertainty", "ddp"),
    (Manual, "gradnorm", "ddp"),
]


def train(kind: type, name: str, strategy: str, rows: torch.Tensor) -> torch.nn.Module:
    module = kind(balancer_of(name))
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # Lightning's would shuffle
    ).fit(module, DataLoader(rows[rank::2], batch_size=4))
    return module.model


def alike(model: torch.nn.Module) -> bool:
    """Whether both processes hold the same bits."""
    own = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    gathered = [torch.empty_like(own) for _ in range(2)]
    distributed.all_gather(gathered, own)
    return torch.equal(*gathered)


def main() -> None:
    whole = batches(4, rows=8)
    # Before there are processes, which balancers would average over.
    expected = [plain_loop(balancer_of(name), whole) for _, name, _ in CASES]
    for case, model in zip(CASES, expected, strict=True):
        found = train(*case, torch.cat(whole))
        if not alike(found) or difference(model, found) > 1e-10:
            raise SystemExit(f"{case}: {difference(model, found)}, alike: {alike(found)}")
    leave_group()  # Lightning stays in it, for gloo
    print("all equal")  # noqa: T201


if __name__ == "__main__":
    main()
