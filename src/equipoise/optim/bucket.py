"""Where MTAdam's moments live, and the arithmetic on them.

A bucket is one large parameter, or many small ones whose moments share one piece of memory, so that
a step costs a few operations for all of them together. What ``optimizer.state`` shows are views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypedDict

import torch
from torch import Tensor

from equipoise.optim.hyperparameters import Group
from equipoise.optim.norms import UNMEASURED, tensor_norms

PACKED = 1 << 16
"""Parameters below this number of elements are packed, into buckets of at most this many."""


class ParameterState(TypedDict, total=False):
    """What ``optimizer.state`` holds for one parameter.

    ``step`` is a scalar, ``norms`` has shape ``[T]``, ``exp_avg`` the shape of the parameter,
    ``exp_avg_sqs`` one of them per loss, ``max_exp_avg_sq`` (AMSGrad only) again the parameter's.
    A complex parameter is seen as real numbers, with a last dimension of 2.
    """

    step: Tensor
    norms: Tensor
    exp_avg: Tensor
    exp_avg_sqs: Tensor
    max_exp_avg_sq: Tensor


def as_real(tensor: Tensor) -> Tensor:
    """The tensor itself; a complex one as pairs of real numbers, in the same memory."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


class Bucket:
    """Parameters of one group, device and dtype that every step treats alike.

    Args:
        parameters: Their state moves into the bucket.
        group: Their hyperparameters, read anew in each step.
        states: The state of each, possibly empty; afterwards it holds views of the bucket.
        count: The number of losses, ``T``.
        on_device: Keep the step counter beside the parameters, where no decision needs the host.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        group: Group,
        states: Sequence[ParameterState],
        count: int,
        *,
        on_device: bool,
    ) -> None:
        self.parameters = list(parameters)
        self.group = group
        self._reals = [as_real(parameter.detach()) for parameter in self.parameters]
        first = self._reals[0]
        self._sizes = [real.numel() for real in self._reals]
        self._lengths = torch.tensor(self._sizes, device=first.device) if self.packed else None
        self._total: Tensor | None = None
        self._grads: list[Tensor] = []
        wide = torch.float64 if first.dtype == torch.float64 else torch.float32
        self.norms = first.new_full((count, len(self._reals)), UNMEASURED, dtype=wide)
        counter = first.device if on_device else torch.device("cpu")
        self.step_count = torch.zeros((), dtype=torch.float32, device=counter)
        self._exp_avg = self._zeros()
        self._exp_avg_sqs = self._zeros(count)
        self._max_exp_avg_sq = self._zeros() if group["amsgrad"] else None
        self._adopt(states)

    @property
    def packed(self) -> bool:
        """Whether several parameters share the memory."""
        return len(self.parameters) > 1

    def owns(self, states: Iterable[ParameterState]) -> bool:
        """Whether the given states still are the bucket's views, not something loaded since."""
        return all(
            state.get("exp_avg") is view for state, view in zip(states, self._views, strict=True)
        )

    def _zeros(self, *count: int) -> Tensor:
        first = self._reals[0]
        if self.packed:
            return first.new_zeros(*count, sum(self._sizes))
        one = torch.zeros_like(first)
        # Moments are laid out as the parameter is, channels last for example.
        return one.new_empty_strided(
            (*count, *one.shape), (*(one.numel() for _ in count), *one.stride())
        ).zero_()

    def _split(self, whole: Tensor) -> list[Tensor]:
        """Views of ``[..., n]``, one for each parameter and in its shape."""
        if not self.packed:
            return [whole]
        lead = whole.shape[:-1]
        parts = torch.split(whole, self._sizes, dim=-1)
        return [
            part.view((*lead, *real.shape)) for part, real in zip(parts, self._reals, strict=True)
        ]

    def _adopt(self, states: Sequence[ParameterState]) -> None:
        self._views = self._split(self._exp_avg)
        squares = self._split(self._exp_avg_sqs)
        largest = None if self._max_exp_avg_sq is None else self._split(self._max_exp_avg_sq)
        for j, state in enumerate(states):
            new: ParameterState = {
                "step": self.step_count,
                "norms": self.norms[:, j],
                "exp_avg": self._views[j],
                "exp_avg_sqs": squares[j],
            }
            if largest is not None:
                new["max_exp_avg_sq"] = largest[j]
            _copy_state(state, new)

    def gather(self, tensors: Sequence[Tensor | None]) -> Tensor | None:
        """One tensor a parameter made into one tensor; ``None`` stands for zeros.

        Returns:
            In the bucket's layout; ``None`` where all are.
        """
        present = [tensor for tensor in tensors if tensor is not None]
        if not present:
            return None
        if not self.packed:
            return as_real(present[0])
        if len(present) == len(tensors):
            flat: Tensor = torch._C._nn.flatten_dense_tensors(present)
            return flat
        zero = self._reals[0].new_zeros(1)
        parts = zip(tensors, self._sizes, strict=True)
        return torch.cat([zero.expand(n) if t is None else t.reshape(-1) for t, n in parts])

    def measure(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """The L2 norm of each gradient, ``[k]``; 0 where there is none."""
        return tensor_norms(gradients, like=self.norms)

    def balanced(
        self,
        gradients: Sequence[Tensor | None],
        scale: Tensor,
        keep: Tensor | None,
        scratch: Tensor | None = None,
    ) -> Tensor | None:
        """``s_j g_j`` for each parameter ``j``, in the bucket's layout.

        Args:
            gradients: One for each parameter.
            scale: ``[k]``.
            keep: A boolean scalar; where it is false the result is zero.
            scratch: Memory that may hold the result: a large new tensor costs more than its
                arithmetic.

        Returns:
            ``None`` where all gradients are.
        """
        whole = self.gather(gradients)
        if whole is None:
            return None
        scale = scale.to(whole.device)
        if self._lengths is None:
            place = None if scratch is None else self._within(scratch)
            scaled = torch.mul(whole, scale[0], out=place)
        else:
            spread = scale.repeat_interleave(self._lengths, output_size=whole.numel())
            scaled = whole.mul_(spread.to(whole.dtype))
        return scaled if keep is None else scaled.masked_fill_(~keep.to(scaled.device), 0.0)

    def _within(self, scratch: Tensor) -> Tensor:
        return scratch.as_strided(self._exp_avg.shape, self._exp_avg.stride())

    @property
    def scratch(self) -> tuple[torch.device, torch.dtype, int]:
        """Which memory ``balanced`` can use: its device, dtype and number of elements."""
        size = 0 if self.packed else self._exp_avg.numel()
        return self._exp_avg.device, self._exp_avg.dtype, size

    def add(self, balanced: Tensor | None) -> None:
        """Adds one loss to the sum of the balanced gradients."""
        if balanced is not None:
            self._total = balanced.clone() if self._total is None else self._total.add_(balanced)

    def publish(self, keep: Tensor | None) -> None:
        """Writes the sum of the balanced gradients to ``.grad``, NaN where ``keep`` is false."""
        total = torch.zeros_like(self._exp_avg) if self._total is None else self._total
        if keep is not None:
            total.masked_fill_(~keep.to(total.device), torch.nan)
        self._total = total
        self._grads = [
            torch.view_as_complex(part) if parameter.is_complex() else part
            for part, parameter in zip(self._split(total), self.parameters, strict=True)
        ]
        for parameter, grad in zip(self.parameters, self._grads, strict=True):
            parameter.grad = grad

    def forget(self) -> None:
        """Lets go of the sum, which stays in ``.grad`` as long as the user keeps it."""
        self._total, self._grads = None, []

    def fold(self, loss: int, balanced: Tensor | None, keep: Tensor | None) -> None:
        """``v_i = beta2 v_i + (1 - beta2) b_i^2``, with ``b_i`` the balanced gradient of loss i.

        Args:
            loss: The position ``i``.
            balanced: In the bucket's layout; ``None`` is zero.
            keep: A boolean scalar; where it is false nothing changes.
        """
        if self.group["weight_decay"] and not self.group["decoupled_weight_decay"]:
            balanced = self._decayed(balanced, self.group["weight_decay"])
        beta2 = self.group["betas"][1]
        second_moment = self._exp_avg_sqs[loss]
        if keep is not None:
            self._fold_if(keep, second_moment, balanced)
            return
        second_moment.mul_(beta2)
        if balanced is not None:
            second_moment.addcmul_(balanced, balanced, value=1 - beta2)

    def _fold_if(self, keep: Tensor, second_moment: Tensor, balanced: Tensor | None) -> None:
        rate = self._if(keep, 1 - self.group["betas"][1])
        if balanced is None:
            second_moment.addcmul_(second_moment, rate, value=-1)
        else:
            square = balanced.masked_fill(~keep.to(rate.device), 0.0).square_()
            second_moment.lerp_(square, rate)

    def _if(self, keep: Tensor, value: float) -> Tensor:
        """The number where ``keep`` holds, else 0; a scalar beside the parameters."""
        return self._exp_avg.new_full((), value) * keep.to(self._exp_avg.device)

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
            self.step_count += 1
            self._exp_avg.lerp_(gradient, rate)
            self._descend()
        else:
            self.step_count += keep.to(self.step_count.device)
            self._exp_avg.lerp_(gradient, self._if(keep, rate))
            self._descend_if(keep)

    def _gradient(self, keep: Tensor | None) -> Tensor:
        """What ``.grad`` holds now: the sum that was published, unless the user changed it."""
        given = [parameter.grad for parameter in self.parameters]
        kept = len(self._grads) == len(given) and all(map(_same, given, self._grads))
        gradient = self._total if kept else self.gather(given)
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
        (beta1, beta2, _), count = self.group["betas"], self.step_count.item()
        size = float(self.group["lr"]) / (1 - beta1**count)
        denominator = self._largest_second_moment().sqrt_().div_((1 - beta2**count) ** 0.5)
        self._move(denominator.add_(self.group["eps"]), -size)

    def _descend_if(self, keep: Tensor) -> None:
        """The same without reading the counter; where ``keep`` is false nothing moves."""
        (beta1, beta2, _), count = (
            self.group["betas"],
            self.step_count.to(self.norms.dtype).clamp_min(1),
        )
        size = keep.to(count) * self.group["lr"] / (1 - beta1**count)
        denominator = self._largest_second_moment().sqrt_().div_((1 - beta2**count).sqrt())
        # Divided by a size of zero the denominator is infinite, and the update zero.
        self._move(denominator.add_(self.group["eps"]).div_(-size), 1.0)

    def _move(self, denominator: Tensor, value: float) -> None:
        moments, denominators = self._split(self._exp_avg), self._split(denominator)
        torch._foreach_addcdiv_(self._reals, moments, denominators, value)


def _copy_state(state: ParameterState, new: ParameterState) -> None:
    """Puts ``new`` in the place of ``state``, with the values of what ``state`` had."""
    for key in ("step", "norms", "exp_avg", "exp_avg_sqs", "max_exp_avg_sq"):
        if key in new:
            if key in state:
                new[key].copy_(state[key])
            state[key] = new[key]


def _same(one: Tensor | None, other: Tensor) -> bool:
    return one is other


def pack(
    parameters: Iterable[Tensor], alike: Callable[[Tensor], object], *, packed: bool
) -> list[list[Tensor]]:
    """Divides parameters into buckets: a large one alone, small ones together.

    Args:
        parameters: In order.
        alike: Only parameters for which it returns the same may share a bucket.
        packed: Whether any may share one at all.

    Returns:
        The parameters of each bucket.
    """
    buckets: list[list[Tensor]] = []
    latest: dict[object, list[Tensor]] = {}
    for parameter in parameters:
        key = alike(parameter)
        bucket = latest.get(key)
        room = PACKED - sum(p.numel() for p in bucket) if bucket is not None else 0
        if bucket is not None and parameter.numel() <= room:
            bucket.append(parameter)
            continue
        buckets.append([parameter])
        if packed and parameter.numel() < PACKED:
            latest[key] = buckets[-1]
    return buckets
