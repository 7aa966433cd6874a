"""What MTAdam keeps of its parameters, and what all forms of its update read and write."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeAlias

import torch
from torch import Tensor

from equipoise.optim.bucket import Bucket, ParameterState, bias_correction
from equipoise.optim.hyperparameters import MTAdamGroup

UNMEASURED = -1.0
"""The norm of a loss that no step has had yet."""

Scalar: TypeAlias = float | Tensor
"""A number, or a scalar tensor where decisions stay on the device."""


class MTAdamBucket(Bucket[MTAdamGroup]):
    """A bucket of MTAdam.

    The state of a parameter: ``step``, a scalar; ``norms``, ``[T]``; ``exp_avg`` of the parameter's
    shape, ``exp_avg_sqs`` one of them for each loss, and with AMSGrad ``max_exp_avg_sq``. A complex
    parameter is seen as real numbers, with a last dimension of 2.
    """

    def _make_state(self, count: int) -> list[ParameterState]:
        first = self._reals[0]
        self.norms = first.new_full((count, len(self._reals)), UNMEASURED, dtype=self._wide)
        self._step_count = torch.zeros((), dtype=torch.float32, device=self._counter)
        self._exp_avg = self._zeros()
        self._exp_avg_sqs = self._zeros(count)
        views: list[ParameterState] = [
            {"step": self._step_count, "norms": norms, "exp_avg": average, "exp_avg_sqs": squares}
            for norms, average, squares in zip(
                self.norms.unbind(dim=1),
                self._shown(self._exp_avg),
                self._shown(self._exp_avg_sqs),
                strict=True,
            )
        ]
        self._max_exp_avg_sq = self._zeros() if self.group["amsgrad"] else None
        if self._max_exp_avg_sq is not None:
            for view, largest in zip(views, self._shown(self._max_exp_avg_sq), strict=True):
                view["max_exp_avg_sq"] = largest
        return views

    @abstractmethod
    def move(self, losses: int | Tensor, keep: Tensor | None) -> None:
        """Updates the first moment and the parameters from the sum of the balanced gradients.

        Args:
            losses: How many losses the step has: coupled weight decay enters once for each.
            keep: A boolean scalar; where it is false nothing changes.
        """

    @property
    def _penalised(self) -> bool:
        """Whether weight decay is part of the gradient."""
        return bool(self.group["weight_decay"]) and not self.group["decoupled_weight_decay"]

    @property
    def _decay(self) -> float:
        """The weight decay that shrinks the parameters instead."""
        return 0.0 if self._penalised else self.group["weight_decay"]

    def _with_penalty(self, balanced: Tensor | None, losses: int | Tensor = 1) -> Tensor:
        """The gradient to descend along, with that of the penalty: ``b + losses * lambda * p``."""
        parameters = self.gather(self._reals)
        if parameters is None:
            return torch.zeros_like(self._exp_avg)
        count = losses.to(self.norms) if isinstance(losses, Tensor) else losses
        rate = count * self.group["weight_decay"]
        if balanced is None:
            return parameters * rate
        if self.group["maximize"]:
            balanced = -balanced
        if isinstance(rate, Tensor):
            return balanced + parameters * rate
        return balanced.add(parameters, alpha=rate)

    def _direction(self, losses: int | Tensor, keep: Tensor | None) -> Tensor:
        """What the first moment takes in: the sum of the balanced gradients, and the penalty's."""
        gradient = self._published(keep)
        if self._penalised:
            return self._with_penalty(gradient, losses)
        return -gradient if self.group["maximize"] else gradient

    def _count_step(self, keep: Tensor | None) -> tuple[Scalar, Scalar]:
        """Counts the step; it happens where ``keep`` holds.

        Returns:
            ``lr / (1 - beta1^t)`` and ``sqrt(1 - beta2^t)``, without reading the counter where
            decisions stay on the device.
        """
        (beta1, beta2, _), lr = self.group["betas"], self.group["lr"]
        if keep is None:
            self._step_count += 1
            count = self._step_count.item()
            return float(lr) / (1 - beta1**count), (1 - beta2**count) ** 0.5
        self._step_count += keep.to(self._step_count.device)
        steps = self._step_count.to(self._reals[0].device, self._wide)
        return lr / bias_correction(beta1, steps), bias_correction(beta2, steps).sqrt()

    def _largest_second_moment(self) -> Tensor:
        """A new tensor: the root is monotonic, so the largest is taken before it."""
        largest = self._exp_avg_sqs.amax(dim=0)
        if self._max_exp_avg_sq is None:
            return largest
        torch.maximum(self._max_exp_avg_sq, largest, out=self._max_exp_avg_sq)
        return self._max_exp_avg_sq.clone()
