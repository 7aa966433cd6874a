"""Run by ``torchrun`` in two processes."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import distributed

from tests.integrations.loops import balancer_of, batches, difference, plain_loop
from tests.integrations.test_transformers import trainer
from tests.parallel.ranks import leave_group

NAMES = ["gradnorm", "softadapt", "graddrop", "mgda"]


def main() -> None:
    whole = batches(3, rows=8)
    # Before there are processes, which balancers would average over.
    expected = [plain_loop(balancer_of(name), whole) for name in NAMES]
    for name, model in zip(NAMES, expected, strict=True):
        made = trainer(balancer_of(name), whole, Path(sys.argv[1]), ddp_backend="gloo")
        made.train()
        apart = difference(model, made.model.inner)
        if distributed.get_world_size() != 2 or apart > 1e-10:
            raise SystemExit(f"{name}: {apart}")
    leave_group()  # the Trainer stays in it
    print("all equal")  # noqa: T201


if __name__ == "__main__":
    main()
