r"""MTAdam's update three times: as the paper writes it, many tensors at once, and compiled.

Algorithm 1 for one parameter, with the names that it has here::

    for each loss i:
        N_i = beta3 N_i + (1 - beta3) |g_i|         Balance.scale, for all parameters at once
        b_i = s_i g_i, with s_i = rank_i N_a / N_i  fold
        v_i = beta2 v_i + (1 - beta2) b_i^2         fold
    m = beta1 m + (1 - beta1) sum_i b_i             move
    v = max_i v_i                                   move
    p = p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

`fold` is called once for each loss, so that one gradient is alive at a time; `move` once in a step.
All three give the same numbers, up to rounding. `SingleTensorMTAdam` is the one to read.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.optim.bucket import ParameterState, as_real
from equipoise.optim.compiled import Compiler, flat
from equipoise.optim.hyperparameters import MTAdamGroup
from equipoise.optim.mtadam_state import MTAdamBucket, Scalar
from equipoise.parallel.dtensor import local

# ---------------------------------------------------------------------------- as the paper has it


class SingleTensorMTAdam(MTAdamBucket):
    """One parameter, line by line as in Algorithm 1."""

    def fold(
        self,
        loss: int,
        gradient: Tensor | None,
        scale: Tensor | None,
        keep: Tensor | None,
        scratch: Tensor | None = None,
    ) -> None:
        """Takes the gradient of one loss in: see `Bucket.fold`."""
        g = torch.zeros_like(self._exp_avg) if gradient is None else gradient
        b = g if scale is None else (scale[0].to(g.device) * g).to(g.dtype)
        self.add(_chosen(keep, b, 0.0))
        self.absorb(loss, b, keep)

    def absorb(self, loss: int, balanced: Tensor | None, keep: Tensor | None) -> None:
        """``v_i = beta2 v_i + (1 - beta2) b_i^2``."""
        beta2 = self.group["betas"][1]
        b = torch.zeros_like(self._exp_avg) if balanced is None else balanced
        b = self._with_penalty(b) if self._penalised else b
        v = self._exp_avg_sqs[loss]
        v.copy_(_chosen(keep, (beta2 * v).addcmul(b, b, value=1 - beta2), v))

    def move(self, losses: int | Tensor, keep: Tensor | None) -> None:
        """Takes the step: see `MTAdamBucket.move`."""
        p, m, lr, beta1 = self._reals[0], self._exp_avg, self.group["lr"], self.group["betas"][0]
        size, correction = self._count_step(keep)
        gradients = self._direction(losses, keep)

        new_m = torch.lerp(m, gradients, 1 - beta1)
        v = self._largest_second_moment()
        new_p = p * (1 - (float(lr) if keep is None else lr) * self._decay)
        new_p = new_p - size * new_m / (v.sqrt() / correction + self.group["eps"])

        m.copy_(_chosen(keep, new_m, m))
        p.copy_(_chosen(keep, new_p, p))


def _chosen(keep: Tensor | None, new: Tensor, old: Scalar) -> Tensor:
    """The new value, or where ``keep`` is false the old one, whatever the new one holds."""
    return new if keep is None else torch.where(keep.to(new.device), new, old)


# ---------------------------------------------------------------------------- many at once

_SAFE = 1e-15
"""With scales from here to its inverse, ``(s^2 g) g`` is as exact in float32 as ``(s g)^2``."""


class MultiTensorMTAdam(MTAdamBucket):
    """Small parameters in one piece of memory, or a large one, with few operations in place."""

    def fold(
        self,
        loss: int,
        gradient: Tensor | None,
        scale: Tensor | None,
        keep: Tensor | None,
        scratch: Tensor | None = None,
    ) -> None:
        """Takes the gradients of one loss in: see `Bucket.fold`."""
        if gradient is not None and scale is not None and self._goes_directly(gradient, keep):
            number = float(scale)
            if _SAFE < number < 1 / _SAFE:
                self._fold_directly(loss, gradient, number)
                return
        super().fold(loss, gradient, scale, keep, scratch)

    def absorb(self, loss: int, balanced: Tensor | None, keep: Tensor | None) -> None:
        """``v_i = beta2 v_i + (1 - beta2) b_i^2``."""
        b = self._with_penalty(balanced) if self._penalised else balanced
        beta2, v = self.group["betas"][1], self._exp_avg_sqs[loss]
        if keep is not None:
            rate = self._if(keep, 1 - beta2)
            square = torch.zeros_like(v) if b is None else b.square()
            v.lerp_(square.masked_fill_(~keep.to(v.device), 0.0), rate)
            return
        v.mul_(beta2)
        if b is not None:
            v.addcmul_(b, b, value=1 - beta2)

    def _goes_directly(self, gradient: Tensor, keep: Tensor | None) -> bool:
        return not self.packed and not self._penalised and keep is None and gradient.is_cpu

    def _fold_directly(self, loss: int, gradient: Tensor, scale: float) -> None:
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

    def move(self, losses: int | Tensor, keep: Tensor | None) -> None:
        """Takes the step: see `MTAdamBucket.move`."""
        rate, gradients = 1 - self.group["betas"][0], self._direction(losses, keep)
        self._shrink(keep)
        size, correction = self._count_step(keep)
        denominator = self._largest_second_moment().sqrt_().div_(correction)
        denominator.add_(self.group["eps"])
        if keep is None:
            self._exp_avg.lerp_(gradients, rate)
            self._move(self._exp_avg, denominator, -float(size))
        else:
            self._exp_avg.lerp_(gradients, self._if(keep, rate))
            # Divided by a size of zero the denominator is infinite, and the update zero.
            self._move(self._exp_avg, denominator.div_(-size * keep.to(denominator.device)), 1.0)

    def _shrink(self, keep: Tensor | None) -> None:
        """Decoupled weight decay, ``p = (1 - lr lambda) p``."""
        lr = self.group["lr"]
        if not self._decay:
            return
        if keep is None:
            torch._foreach_mul_(self._reals, 1 - float(lr) * self._decay)
            return
        for real in self._reals:
            real.addcmul_(real, self._if(keep, self._decay) * lr, value=-1)


# ---------------------------------------------------------------------------- compiled


class FusedMTAdam(MultiTensorMTAdam):
    """A large parameter whose arithmetic is compiled, so that everything is read and written once.

    A step is bound by memory: taken operation by operation, the fold of one loss moves eleven
    numbers for each element, in one loop five. Uncompiled it takes the same steps, slower.
    """

    compiler: Compiler
    """Set by `bucket_of`."""

    def fold(
        self,
        loss: int,
        gradient: Tensor | None,
        scale: Tensor | None,
        keep: Tensor | None,
        scratch: Tensor | None = None,
    ) -> None:
        """Takes the gradient of one loss in: see `Bucket.fold`."""
        if self._penalised or gradient is None or scale is None:
            super().fold(loss, gradient, scale, keep, scratch)
            return
        p, first = self._reals[0], self._total is None
        total = torch.empty_like(self._exp_avg) if self._total is None else self._total
        self._total = total
        self.compiler.run(
            fused_fold,
            flat(gradient, p),
            flat(self._exp_avg_sqs[loss], p),
            flat(total, p),
            scale[0].to(p.device),
            None if keep is None else keep.to(p.device),
            self.group["betas"][1],
            first=first,
        )

    def move(self, losses: int | Tensor, keep: Tensor | None) -> None:
        """Takes the step: see `MTAdamBucket.move`."""
        p, v, largest = self._reals[0], self._exp_avg_sqs, self._max_exp_avg_sq
        gradients = self._direction(losses, None)  # what is not finite is left out below
        lr = self.group["lr"]
        size, correction = self._count_step(keep)
        self.compiler.run(
            fused_move,
            flat(p, p),
            flat(self._exp_avg, p),
            v.as_strided((len(v), p.numel()), (p.numel(), 1)),
            None if largest is None else flat(largest, p),
            flat(gradients, p),
            None if keep is None else keep.to(p.device),
            1 - self.group["betas"][0],
            1 - (float(lr) if keep is None else lr) * self._decay,
            size,
            correction,
            self.group["eps"],
        )


def fused_fold(
    gradient: Tensor,
    second_moment: Tensor,
    total: Tensor,
    scale: Tensor,
    keep: Tensor | None,
    beta2: float,
    *,
    first: bool,
) -> None:
    """``b = s g``, ``v = beta2 v + (1 - beta2) b^2``, ``total += b``.

    Args:
        gradient: ``g``, ``[n]``.
        second_moment: ``v``, ``[n]``, updated.
        total: The sum of the balanced gradients so far, ``[n]``, updated.
        scale: ``s``, a scalar.
        keep: A boolean scalar; where it is false nothing changes, whatever ``g`` holds.
        beta2: The decay rate.
        first: Whether nothing was added to ``total`` so far: then its values do not count.
    """
    balanced = gradient * scale
    squared = second_moment * beta2 + (1 - beta2) * (balanced * balanced)
    if keep is not None:
        balanced = torch.where(keep, balanced, 0.0)
        squared = torch.where(keep, squared, second_moment)
    second_moment.copy_(squared)
    total.copy_(balanced if first else total + balanced)


def fused_move(
    parameter: Tensor,
    first_moment: Tensor,
    second_moments: Tensor,
    largest: Tensor | None,
    gradient: Tensor,
    keep: Tensor | None,
    rate: float,
    shrinkage: Scalar,
    size: Scalar,
    correction: Scalar,
    eps: float,
) -> None:
    """``m += rate (g - m)``, then ``p = c p - size m / (sqrt(max_i v_i) / correction + eps)``.

    Args:
        parameter: ``p``, ``[n]``, updated.
        first_moment: ``m``, ``[n]``, updated.
        second_moments: ``v``, ``[T, n]``.
        largest: With AMSGrad the largest ``v`` so far, ``[n]``, updated.
        gradient: The sum of the balanced gradients, ``[n]``.
        keep: A boolean scalar; where it is false nothing changes.
        rate: ``1 - beta1``.
        shrinkage: ``c``, of decoupled weight decay.
        size: The learning rate over the bias correction of ``m``.
        correction: The root of the bias correction of ``v``.
        eps: Added to the denominator.
    """
    moment = torch.lerp(first_moment, gradient, rate)
    # Spelled out, so that the compiler sees a chain and no reduction.
    square = functools.reduce(torch.maximum, second_moments.unbind(0))
    if largest is not None:
        square = torch.maximum(square, largest)
        largest.copy_(square)
    moved = parameter * shrinkage - size * (moment / (square.sqrt() / correction + eps))
    if keep is not None:
        moment = torch.where(keep, moment, first_moment)
        moved = torch.where(keep, moved, parameter)
    first_moment.copy_(moment)
    parameter.copy_(moved)


# ---------------------------------------------------------------------------- which one


def bucket_of(
    parameters: Sequence[Tensor],
    group: MTAdamGroup,
    states: Sequence[ParameterState],
    count: int,
    *,
    on_device: bool,
    packed: bool,
    compiler: Compiler,
) -> MTAdamBucket:
    """A bucket of the form that suits its parameters.

    Args:
        parameters: See `Bucket`.
        group: See `Bucket`.
        states: See `Bucket`.
        count: See `Bucket`.
        on_device: See `Bucket`.
        packed: Whether parameters may share memory; if not, each is taken as the paper has it.
        compiler: Tells which parameters are large enough to be compiled.
    """
    if len(parameters) == 1 and compiler.suits(as_real(local(parameters[0]))):
        fused = FusedMTAdam(parameters, group, states, count, on_device=on_device)
        fused.compiler = compiler
        return fused
    kind = MultiTensorMTAdam if packed else SingleTensorMTAdam
    return kind(parameters, group, states, count, on_device=on_device)
