"""What a method may not do in a comparison: see test data, or move the model by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from equipoise.benchmarks.compare.trainers import Trainer
from equipoise.benchmarks.problem import Trial


def withheld(trial: Trial) -> Trial:
    """A trial as methods may see it: to train on, without validation and test data.

    Args:
        trial: The trial, which the comparison keeps for itself.
    """
    return replace(trial, evaluate=_refuse, validate=_refuse if trial.validate else None)


def _refuse() -> NoReturn:
    raise RuntimeError(
        "A method asked for the metric on validation or test data; while it trains, only the "
        "comparison may measure it."
    )


@dataclass(frozen=True)
class Watched:
    """A trainer whose optimizer has to find the model as the losses left it.

    A balancer that changes parameters itself, in passing or to train longer than others, has steps
    that the number of steps does not tell.

    Args:
        trainer: The method.
        trial: Holds the model.
    """

    trainer: Trainer
    trial: Trial

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The trainer's."""
        return self.trainer.optimizer

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """Updates the model once.

        Raises:
            RuntimeError: If a parameter was changed before the optimizer's step.
        """
        before = {name: value.clone() for name, value in self._parameters()}

        def compare(*_: object) -> None:
            changed = [name for name, value in self._parameters() if not _same(value, before[name])]
            if changed:
                raise RuntimeError(
                    f"The method changed {changed[0]!r} of the model before its optimizer's step; "
                    "a balancer's part is gradients."
                )

        handle = self.trainer.optimizer.register_step_pre_hook(compare)
        try:
            self.trainer.step(losses)
        finally:
            handle.remove()

    def look_back(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """The trainer's."""
        self.trainer.look_back(again)

    def weights(self) -> dict[str, float]:
        """The trainer's."""
        return self.trainer.weights()

    def _parameters(self) -> list[tuple[str, Tensor]]:
        return [(name, value.detach()) for name, value in self.trial.model.named_parameters()]


def _same(value: Tensor, before: Tensor) -> bool:
    # What is no number equals nothing, and is told as a divergence.
    return value.shape == before.shape and bool(((value == before) | value.isnan()).all())
