"""`Behind`: weights one step behind the Gramian, so that no accelerator waits for a solver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.autograd.precision import full_precision
from equipoise.balancer import Balancer
from equipoise.gradients.gradients import Gradients
from equipoise.gradients.gramian import GramianGradients
from equipoise.learner import Step
from equipoise.wrappers.base import Reweighting


class Behind(Reweighting):
    r"""Applies the weights that a method finds for the gradients of the step before.

    With ``W`` the method and :math:`G_t` the Gramian of step ``t``,

    .. math:: w_t = W(G_{t-1})

    A method that solves for its weights on the host makes an accelerator wait until its Gramian has
    been read and the solution is back. Here the Gramian of a step is copied to the host while the
    accelerator goes on, and is solved in the next step. The weights of the losses that are there
    change one step late, nothing else: the method sees the same Gramians in the same order.

    With ``every=k`` the step before is the one that measured before. The first step applies what
    the method starts from, ones as a rule. A loss that was absent the step before is applied with
    the last weight that it had.

    Args:
        balancer: A method that looks at the Gramian, or a wrapper around one. It is shown what was
            measured, a step late.

    Raises:
        TypeError: If the method looks at losses or norms only, which makes nobody wait, or at whole
            gradients.

    Example:
        >>> from equipoise import UPGrad
        >>> balancer = Behind(UPGrad(["a", "b"], reg_eps=0.0))
        >>> gradients = Gradients(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
        >>> balancer.weigh(torch.ones(2), gradients), balancer.weigh(torch.ones(2), gradients)
        (tensor([1., 1.]), tensor([1.0000, 0.7500]))
    """

    pending: Tensor
    pending_values: Tensor
    pending_gram: Tensor

    def __init__(self, balancer: Balancer) -> None:
        given = isinstance(balancer, Balancer) and balancer.looks_at == "gramian"
        if not given or not balancer.weighting:
            msg = (
                f"{type(balancer).__name__} finds no weights from a Gramian, so nothing can be "
                "kept a step behind; use it as it is."
            )
            raise TypeError(msg)
        super().__init__(balancer)
        count = len(self.names)
        self.state("pending", torch.zeros(count, dtype=torch.bool))
        self.state("pending_values", torch.zeros(count))
        self.state("pending_gram", torch.zeros(count, count), axes=2)
        self._waiting: tuple[int, ...] = ()
        self._arriving: _Arriving | None = None

    @full_precision()
    def weigh(self, values: Tensor, gradients: Gradients | None = None) -> Tensor:
        """The weights for what was given in the call before; keeps this for the next.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[T]`` weights.

        Raises:
            TypeError: If there are no gradients.
        """
        gradients = self._given(gradients)
        self._catch_up()
        self._keep(values, gradients)
        self._waiting = tuple(range(len(self.names)))
        return self.resting.clone()

    def _keep(self, values: Tensor, gradients: Gradients) -> None:
        self.pending_values = self.follow(values.detach())
        self.pending_gram = gradients.gram().to(self.pending_values.dtype)

    def _decide(self, step: Step, gradients: Gradients | None) -> Tensor:
        terms = step.terms
        self.follow(terms.values())
        if step.due and gradients is not None:
            self._catch_up()
        with self.among(terms.present):
            weights = self.resting * self.factors
            if step.due and gradients is not None:
                scaled = gradients.scaled(self.factors)
                self._keep(self._as_seen(terms.values()), scaled)
        if step.due and gradients is not None:
            self._waiting = terms.present
            self._arriving = _Arriving(self._packed())
        return weights

    def _packed(self) -> Tensor:
        """``[T + 1, T]``: what is pending, in one piece."""
        return torch.cat([self.pending_values[None], self.pending_gram])

    def _catch_up(self) -> None:
        """Solves what is pending: that of the losses that were there."""
        if not self._waiting:
            return
        arriving = self._arriving or _Arriving(self._packed())
        present, self._waiting, self._arriving = list(self._waiting), (), None
        packed = arriving.wait()[:, present]
        values = self.balancer.follow(packed[0])
        with self.balancer.among(tuple(present)):
            self.balancer.weigh(values, GramianGradients(packed[1:][present]))
        self.resting.copy_(_sent(self.balancer.resting, self.resting.device))

    def _save_to_state_dict(self, *args: Any) -> None:  # noqa: ANN401
        self.pending.zero_()
        self.pending[list(self._waiting)] = True
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._waiting = tuple(self.pending.nonzero().flatten().tolist())
        self._arriving = None

    def _convert(self, extra: dict[str, Any], state_dict: dict[str, Any], prefix: str) -> None:
        pending = torch.zeros(len(extra["losses"]), dtype=torch.bool)
        pending[list(extra["pending"])] = True
        state_dict[f"{prefix}pending"] = pending

    def __getstate__(self) -> dict[str, Any]:
        """What is on its way is in the buffers, too, and is sent again."""
        return {**self.__dict__, "_arriving": None}


class _Arriving:
    """A copy on its way to the host.

    Args:
        tensor: What is copied.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = tensor.detach()
        if tensor.device.type == "cuda":
            self._host = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(tensor.device))

    def wait(self) -> Tensor:
        """The copy on the host, once it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.to("cpu")


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A host tensor on a device, without waiting."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
