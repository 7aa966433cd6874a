"""The random numbers of torch, NumPy and Python, seeded, put aside and put back together."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_WORD = 1 << 32
"""NumPy takes seeds in words of 32 bits."""


@dataclass(frozen=True)
class RandomNumbers:
    """Where the global generators stand.

    Attributes:
        cpu: Torch's.
        cuda: Torch's, one for each device; empty where CUDA has not been used.
        numpy: NumPy's global one.
        python: That of the module `random`.
    """

    cpu: Tensor
    cuda: list[Tensor]
    numpy: Any
    python: Any

    @classmethod
    def now(cls) -> RandomNumbers:
        """Where they stand now."""
        used = torch.cuda.is_initialized()
        cuda = torch.cuda.get_rng_state_all() if used else []
        # Problems draw from NumPy's global generator, whatever is thought of it.
        numpy = np.random.get_state()  # noqa: NPY002
        return cls(torch.get_rng_state(), cuda, numpy, random.getstate())

    @classmethod
    def of_seed(cls, seed: int) -> RandomNumbers:
        """Where a seed leaves them; they themselves stay where they are."""
        before = cls.now()
        seed_all(seed)
        found = cls.now()
        before.put_back()
        return found

    def put_back(self) -> None:
        """Lets them go on from here."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)


def seed_all(seed: int) -> None:
    """Seeds the global generators.

    Args:
        seed: Not negative.
    """
    torch.manual_seed(seed)
    np.random.seed([seed % _WORD, seed // _WORD])  # noqa: NPY002
    random.seed(seed)
