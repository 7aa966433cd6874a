"""`Behind`: weights one step behind the Gramian, so that no accelerator waits for a solver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from equipoise.aggregation.base import Aggregation
from equipoise.gradients.gradients import Gradients

if TYPE_CHECKING:
    from equipoise.losses import Terms


class Behind(Aggregation):
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
        balancer: A method that looks at the Gramian. Its options are taken over; it is shown what
            was measured and goes backward no more itself.

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

    pending_values: Tensor
    pending_gram: Tensor

    def __init__(self, balancer: Aggregation) -> None:
        given = isinstance(balancer, Aggregation) and balancer.looks_at == "gramian"
        if not given or not balancer.weighting:
            msg = (
                f"{type(balancer).__name__} finds no weights from a Gramian, so nothing can be "
                "kept a step behind; use it as it is."
            )
            raise TypeError(msg)
        super().__init__(
            balancer.names,
            wrt=balancer._wrt[0],
            heads=balancer.heads,
            measuring=balancer._measurement.measuring,
            priorities=balancer.schedules.first,
            every=balancer.every,
            nonfinite=balancer.nonfinite,
            process_group=balancer.processes.group,
        )
        self.schedules = balancer.schedules
        self.balancer = balancer
        count = len(self.names)
        self.state("pending_values", torch.zeros(count))
        self.state("pending_gram", torch.zeros(count, count), axes=2)
        self.resting.copy_(balancer.resting)
        self._pending: tuple[int, ...] = ()
        self._arriving: _Arriving | None = None

    def weigh(self, values: Tensor, gradients: Gradients) -> Tensor:
        """The weights for what was given in the call before; keeps this for the next.

        Args:
            values: ``[T]`` detached loss values, already multiplied by any priorities.
            gradients: Their gradients.

        Returns:
            ``[T]`` weights.
        """
        self._catch_up()
        self.pending_values = self.follow(values.detach())
        self.pending_gram = gradients.gram().to(self.pending_values.dtype)
        self._pending = tuple(range(len(self.names)))
        return self.resting.clone()

    def _decide(self, terms: Terms, gradients: Gradients | None) -> Tensor:
        if gradients is None:
            return super()._decide(terms, None)
        self.follow(terms.values())
        self._catch_up()
        weights = super()._decide(terms, gradients)
        self._pending = terms.present
        self._arriving = _Arriving(self._packed())
        return weights

    def _packed(self) -> Tensor:
        """``[T + 1, T]``: what is pending, in one piece."""
        return torch.cat([self.pending_values[None], self.pending_gram])

    def _catch_up(self) -> None:
        """Solves what is pending: that of the losses that were there."""
        if not self._pending:
            return
        arriving = self._arriving or _Arriving(self._packed())
        present, self._pending, self._arriving = list(self._pending), (), None
        packed = arriving.wait()[:, present]
        values = self.balancer.follow(packed[0])
        with self.balancer.among(tuple(present)):
            self.balancer.weigh(values, _GramianOnly(packed[1:][present]))
        self.resting.copy_(_sent(self.balancer.resting, self.resting.device))

    def get_extra_state(self) -> dict[str, Any]:
        """Besides what every balancer keeps: which losses wait for being solved."""
        return {**super().get_extra_state(), "pending": list(self._pending)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_extra_state` gave."""
        super().set_extra_state(state)
        self._pending = tuple(state["pending"])
        self._arriving = None

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


class _GramianOnly(Gradients):
    """Gradients of which the inner products are all that is left."""

    def __init__(self, gram: Tensor) -> None:
        self._gram = gram
        self._norms = None
        self._pool = None
        self._sizes = []

    def __len__(self) -> int:
        return len(self._gram) if self._gram is not None else 0

    def matrix(self) -> Tensor:
        """Refused.

        Raises:
            TypeError: Always.
        """
        msg = "Only the Gramian of the step before is kept; this method needs its gradients."
        raise TypeError(msg)
