"""The arithmetic of the house: never autocast, never on tensors that cannot learn later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu")


@contextmanager
def full_precision() -> Iterator[None]:
    """Switches autocast and inference mode off.

    A Gramian in half precision loses the small eigenvalues that a solver lives on, and PyTorch
    wants backward passes outside of autocast anyway: each operation goes back in the precision in
    which it went forward. A buffer made in inference mode could not be changed in training later.
    """
    cast = [device for device in _DEVICES if torch.is_autocast_enabled(device)]
    inferring = torch.is_inference_mode_enabled()
    if not cast and not inferring:
        yield
        return
    with ExitStack() as stack:
        for device in cast:
            stack.enter_context(torch.autocast(device, enabled=False))
        if inferring:
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.no_grad())
        yield
