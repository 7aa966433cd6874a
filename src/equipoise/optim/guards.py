"""What must not spoil a step: losses that are not finite, autocast, inference mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from equipoise.losses import Losses, Terms
from equipoise.optim.hyperparameters import Nonfinite


class Finiteness:
    """Knows which losses and gradients were finite, and what becomes of those that were not.

    It decides whether a step may happen, and counts what was left out.

    Args:
        nonfinite: ``"skip"`` or ``"raise"``.
        on_device: Decide on the device; ``None`` is no on the CPU, yes elsewhere.
    """

    def __init__(self, nonfinite: Nonfinite, on_device: bool | None) -> None:
        self.skipped: int | Tensor = 0
        self.rested: dict[str, int | Tensor] = {}
        self._nonfinite = nonfinite
        self._on_device = on_device
        self.forget()

    def forget(self) -> None:
        """Begins a step anew, without its earlier micro-batches."""
        self._so_far: bool | Tensor = True
        self._resting: list[tuple[str, int | Tensor]] = []

    def on_device(self, tensor: Tensor) -> bool:
        """Whether what concerns this tensor is decided where it is."""
        return tensor.device.type != "cpu" if self._on_device is None else self._on_device

    def of_losses(self, terms: Terms) -> bool | Tensor:
        """Whether these and the accumulated losses are finite: known, or a scalar on the device."""
        finite = torch.isfinite(terms.values())
        if self._nonfinite == "raise":
            for name, fine in zip(terms.present_names, finite.tolist(), strict=True):
                if not fine:
                    raise _error(f"Loss {name!r}")
        if self.on_device(finite):
            self._so_far = finite.all() & self._so_far
        else:
            self._so_far = bool(finite.all()) and bool(self._so_far)
        return self._so_far

    def of_gradient(self, name: str, finite: bool | Tensor) -> None:
        """Notes the gradient of one loss if it was not finite; it is counted with the step."""
        if self._nonfinite == "raise" and not finite:
            raise _error(f"The gradient of loss {name!r}")
        if finite is not True:
            missing = ~finite if isinstance(finite, Tensor) else 1
            self._resting.append((name, missing))

    def of_step(self, happens: bool | Tensor) -> None:
        """Counts the losses that rest in a step, and the step if it does not happen."""
        for name, missing in self._resting:
            self.rested[name] = self.rested.get(name, 0) + missing
        self._resting.clear()
        if happens is not True:
            self.skipped = self.skipped + (~happens if isinstance(happens, Tensor) else 1)


def _error(what: str) -> ValueError:
    return ValueError(
        f"{what} is NaN or infinite. Look at its inputs and the learning rate; "
        "`nonfinite='skip'` leaves such steps out."
    )


def refuse_inference(losses: Losses) -> None:
    """Raises a ``RuntimeError`` at losses of ``torch.inference_mode()``, which keeps no graph."""
    given = losses.values() if isinstance(losses, Mapping) else losses
    given = [given] if isinstance(given, Tensor) or not isinstance(given, Iterable) else given
    if any(isinstance(loss, Tensor) and loss.is_inference() for loss in given):
        msg = (
            "The losses were computed under `torch.inference_mode()`, which keeps no graph and "
            "whose tensors no training can use; leave it before the forward pass, and use it for "
            "validation alone."
        )
        raise RuntimeError(msg)
