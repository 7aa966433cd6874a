"""MTAdam's moments: one first moment, a second moment for each loss, and the update from them."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.optim.bucket import Bucket, ParameterState, bias_correction
from equipoise.optim.hyperparameters import MTAdamGroup
from equipoise.optim.norms import UNMEASURED
from equipoise.optim.shards import local


class Moments(Bucket[MTAdamGroup]):
    """A bucket of MTAdam.

    The state of a parameter: ``step``, a scalar; ``norms``, ``[T]``; ``exp_avg`` of the parameter's
    shape, ``exp_avg_sqs`` one of them a loss, and with AMSGrad ``max_exp_avg_sq``. A complex
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

    def fold(self, loss: int, whole: Tensor | None, keep: Tensor | None) -> None:
        """``v_i = beta2 v_i + (1 - beta2) b_i^2``, with ``b_i`` the balanced gradient of loss i."""
        if self.group["weight_decay"] and not self.group["decoupled_weight_decay"]:
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
        group = self.group
        gradient = self._gradient(keep)
        if group["weight_decay"] and group["decoupled_weight_decay"]:
            self._shrink(keep)
        elif group["weight_decay"]:
            gradient = self._decayed(gradient, self._penalty(losses))
        elif group["maximize"]:
            gradient = -gradient
        rate = 1 - group["betas"][0]
        if keep is None:
            self._step_count += 1
            self._exp_avg.lerp_(gradient, rate)
            self._descend()
        else:
            self._step_count += keep.to(self._step_count.device)
            self._exp_avg.lerp_(gradient, self._if(keep, rate))
            self._descend_if(keep)

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
