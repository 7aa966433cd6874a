"""MTAdam's moments: one first moment, a second moment for each loss, and the update from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.optim.bucket import Bucket, ParameterState, as_real, bias_correction
from equipoise.optim.hyperparameters import MTAdamGroup
from equipoise.optim.kernels import Kernels, Scalar, descend, flat, fold
from equipoise.optim.norms import UNMEASURED
from equipoise.parallel.dtensor import local

_SAFE = 1e-15
"""With scales from here to its inverse, ``(s^2 g) g`` is as exact in float32 as ``(s g)^2``."""


class Moments(Bucket[MTAdamGroup]):
    """A bucket of MTAdam.

    The state of a parameter: ``step``, a scalar; ``norms``, ``[T]``; ``exp_avg`` of the parameter's
    shape, ``exp_avg_sqs`` one of them a loss, and with AMSGrad ``max_exp_avg_sq``. A complex
    parameter is seen as real numbers, with a last dimension of 2.

    Args:
        parameters: See `Bucket`.
        group: See `Bucket`.
        states: See `Bucket`.
        count: See `Bucket`.
        on_device: See `Bucket`.
        kernels: Compile the arithmetic of parameters that are large enough.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        group: MTAdamGroup,
        states: Sequence[ParameterState],
        count: int,
        *,
        on_device: bool,
        kernels: Kernels,
    ) -> None:
        super().__init__(parameters, group, states, count, on_device=on_device)
        self._kernels = kernels
        self._fuses = not self.packed and kernels.suit(self._reals[0])

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

    def take(
        self,
        loss: int,
        gradients: Sequence[Tensor | None],
        scale: Tensor | None,
        keep: Tensor | None,
        scratch: Tensor | None,
    ) -> None:
        """As `Bucket.take`, without ever writing the balanced gradient where that can be spared."""
        gradient = gradients[0]
        if self.packed or self._penalised or gradient is None or scale is None:
            super().take(loss, gradients, scale, keep, scratch)
        elif self._fuses:
            self._take_at_once(loss, gradient, scale, keep)
        elif keep is None and gradient.is_cpu and _SAFE < float(scale) < 1 / _SAFE:
            self._take_directly(loss, as_real(gradient), float(scale))
        else:
            super().take(loss, gradients, scale, keep, scratch)

    def _take_directly(self, loss: int, gradient: Tensor, scale: float) -> None:
        """Three operations on ``g`` in the place of four on ``b = s g``."""
        beta2 = self.group["betas"][1]
        # Multiplied from the left, so nothing overflows that would not have as b^2.
        self._exp_avg_sqs[loss].mul_(beta2).addcmul_(
            gradient, gradient, value=(1 - beta2) * scale**2
        )
        if self._total is None:
            self._total = torch.mul(gradient, scale, out=torch.empty_like(self._exp_avg))
        else:
            self._total.add_(gradient, alpha=scale)

    def _take_at_once(
        self, loss: int, gradient: Tensor, scale: Tensor, keep: Tensor | None
    ) -> None:
        """All of it in one loop."""
        real, first = self._reals[0], self._total is None
        total = torch.empty_like(self._exp_avg) if self._total is None else self._total
        self._total = total
        self._kernels.run(
            fold,
            flat(as_real(gradient), real),
            flat(self._exp_avg_sqs[loss], real),
            flat(total, real),
            scale[0].to(real.device),
            None if keep is None else keep.to(real.device),
            self.group["betas"][1],
            first=first,
        )

    @property
    def _penalised(self) -> bool:
        """Whether weight decay is part of the gradient."""
        return bool(self.group["weight_decay"]) and not self.group["decoupled_weight_decay"]

    def fold(self, loss: int, whole: Tensor | None, keep: Tensor | None) -> None:
        """``v_i = beta2 v_i + (1 - beta2) b_i^2``, with ``b_i`` the balanced gradient of loss i."""
        if self._penalised:
            whole = self._decayed(whole, self.group["weight_decay"])
        beta2 = self.group["betas"][1]
        second_moment = self._exp_avg_sqs[loss]
        if keep is not None:
            self._fold_if(keep, second_moment, whole)
            return
        second_moment.mul_(beta2)
        if whole is not None:
            second_moment.addcmul_(whole, whole, value=1 - beta2)

    def _fold_if(self, keep: Tensor, second_moment: Tensor, balanced: Tensor | None) -> None:
        rate = self._if(keep, 1 - self.group["betas"][1])
        if balanced is None:
            second_moment.addcmul_(second_moment, rate, value=-1)
        else:
            square = balanced.masked_fill(~keep.to(rate.device), 0.0).square_()
            second_moment.lerp_(square, rate)

    def _decayed(self, gradient: Tensor | None, rate: float | Tensor) -> Tensor:
        """The gradient to descend along, with the penalty's: ``g + rate * p``."""
        parameters = self.gather(self._reals)
        if parameters is None or gradient is None:
            return torch.zeros_like(self._exp_avg) if parameters is None else parameters * rate
        if self.group["maximize"]:
            gradient = -gradient
        if isinstance(rate, Tensor):
            return gradient + parameters * rate
        return gradient.add(parameters, alpha=rate)

    def _penalty(self, losses: int | Tensor) -> float | Tensor:
        """Coupled weight decay enters once for each loss."""
        count = losses.to(self.norms) if isinstance(losses, Tensor) else losses
        return count * self.group["weight_decay"]

    def step(self, losses: int | Tensor, keep: Tensor | None) -> None:
        """``m = beta1 m + (1 - beta1) sum_i b_i``, then the update of the parameters.

        Args:
            losses: How many losses the step has: coupled weight decay enters once for each.
            keep: A boolean scalar; where it is false nothing changes.
        """
        gradient = self._gradient(None if self._fuses else keep)
        if self._penalised:
            gradient = self._decayed(gradient, self._penalty(losses))
        elif self.group["maximize"]:
            gradient = -gradient
        self._step_count += 1 if keep is None else keep.to(self._step_count.device)
        if self._fuses:
            self._descend_at_once(gradient, keep)
            return
        if self.group["weight_decay"] and not self._penalised:
            self._shrink(keep)
        rate = 1 - self.group["betas"][0]
        if keep is None:
            self._exp_avg.lerp_(gradient, rate)
            self._descend()
        else:
            self._exp_avg.lerp_(gradient, self._if(keep, rate))
            self._descend_if(keep)

    def _descend_at_once(self, gradient: Tensor, keep: Tensor | None) -> None:
        """Everything behind the gradient in one loop."""
        real, decay = self._reals[0], 0.0 if self._penalised else self.group["weight_decay"]
        beta1, beta2, _ = self.group["betas"]
        lr: Scalar = self.group["lr"]
        size: Scalar
        correction: Scalar
        if keep is None:
            lr, count = float(lr), self._step_count.item()
            size, correction = lr / (1 - beta1**count), (1 - beta2**count) ** 0.5
        else:
            steps = self._step_count.to(real.device, self._wide)
            size, correction = (
                lr / bias_correction(beta1, steps),
                bias_correction(beta2, steps).sqrt(),
            )
        squares, largest = self._exp_avg_sqs, self._max_exp_avg_sq
        self._kernels.run(
            descend,
            flat(real, real),
            flat(self._exp_avg, real),
            squares.as_strided((len(squares), real.numel()), (real.numel(), 1)),
            None if largest is None else flat(largest, real),
            flat(gradient, real),
            None if keep is None else keep.to(real.device),
            1 - beta1,
            1 - lr * decay,
            size,
            correction,
            self.group["eps"],
        )

    def _gradient(self, keep: Tensor | None) -> Tensor:
        """What ``.grad`` holds now: the sum that was published, unless the user changed it."""
        given = [parameter.grad for parameter in self.parameters]
        kept = len(self._grads) == len(given) and all(map(_same, given, self._grads))
        gradient = self._total if kept else self.gather([_local(grad) for grad in given])
        if gradient is None:
            return torch.zeros_like(self._exp_avg)
        return gradient if keep is None else gradient.masked_fill(~keep.to(gradient.device), 0.0)

    def _shrink(self, keep: Tensor | None) -> None:
        """Decoupled weight decay, ``p = (1 - lr lambda) p``."""
        lr, decay = self.group["lr"], self.group["weight_decay"]
        if keep is None:
            torch._foreach_mul_(self._reals, 1 - float(lr) * decay)
            return
        for real in self._reals:
            real.addcmul_(real, self._if(keep, decay) * lr, value=-1)

    def _largest_second_moment(self) -> Tensor:
        """A new tensor: the root is monotonic, so the largest is taken before it."""
        if self._max_exp_avg_sq is None:
            return self._exp_avg_sqs.amax(dim=0)
        torch.maximum(self._max_exp_avg_sq, self._exp_avg_sqs.amax(dim=0), out=self._max_exp_avg_sq)
        return self._max_exp_avg_sq.clone()

    def _descend(self) -> None:
        """``p -= lr / (1 - beta1^t) m / (sqrt(max_i v_i) / sqrt(1 - beta2^t) + eps)``."""
        (beta1, beta2, _), count = self.group["betas"], self._step_count.item()
        size = float(self.group["lr"]) / (1 - beta1**count)
        denominator = self._largest_second_moment().sqrt_().div_((1 - beta2**count) ** 0.5)
        self._move(self._exp_avg, denominator.add_(self.group["eps"]), -size)

    def _descend_if(self, keep: Tensor) -> None:
        """The same without reading the counter; where ``keep`` is false nothing moves."""
        (beta1, beta2, _), count = self.group["betas"], self._step_count.to(self._wide)
        size = keep.to(count) * self.group["lr"] / bias_correction(beta1, count)
        correction = bias_correction(beta2, count).sqrt()
        denominator = self._largest_second_moment().sqrt_().div_(correction)
        # Divided by a size of zero the denominator is infinite, and the update zero.
        self._move(self._exp_avg, denominator.add_(self.group["eps"]).div_(-size), 1.0)


def _local(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else local(grad)


def _same(one: Tensor | None, other: Tensor) -> bool:
    return one is other
