"""How a model is looked at in the middle of a training, which must not notice it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from equipoise.benchmarks.random_numbers import RandomNumbers


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, and random numbers that the training does not miss.

    Args:
        model: Each of its modules is put back into the mode that it was in.
    """
    modes = {module: module.training for module in model.modules()}
    numbers = RandomNumbers.now()
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        numbers.put_back()
        for module, training in modes.items():
            # Not `module.train(training)`, which would set all that lies below it as well.
            module.training = training
