"""PhysicsNeMo Sym: any balancer in the place of its loss aggregators.

Nothing of PhysicsNeMo is imported: an aggregator is a module that is built from the parameters and
the number of losses, and called with the losses and the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from equipoise.integrations.balanced_loss import balanced_loss
from equipoise.registry import create_balancer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class BalancedAggregator(nn.Module):
    """A balancer with the interface of ``physicsnemo.sym.loss.aggregator.Aggregator``.

    In the configuration::

        loss:
          _target_: equipoise.integrations.physicsnemo.BalancedAggregator
          method: gradnorm
          options: {alpha: 1.0}

    Run with ``jit: false`` and ``cuda_graphs: false``: the graph of each step is read. It has no
    parameters, so BFGS works: several calls with one ``step`` (its closures, or gradient
    aggregation) learn at the first and use its weights in the others. PhysicsNeMo saves no
    aggregator; to resume one, save its ``state_dict()`` beside the network.

    The losses get their names at the first call.

    Args:
        params: The parameters of the networks; unused, the losses' graph tells them.
        num_losses: How many losses there are.
        weights: What each loss is multiplied with before it is balanced; one where left out.
        method: The name of a balancer, see `list_balancers`.
        options: The keywords of its class, without ``priorities``.

    Raises:
        ValueError: If there is no such method, or at a call with other losses than the first.

    Example:
        >>> import torch
        >>> network = torch.nn.Linear(2, 2)
        >>> aggregator = BalancedAggregator(network.parameters(), 2, method="mgda")
        >>> interior, boundary = network(torch.ones(4, 2)).square().mean(dim=0)
        >>> aggregator({"interior": interior, "boundary": boundary}, step=0).backward()
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        num_losses: int,
        weights: Mapping[str, float] | None = None,
        *,
        method: str = "gradnorm",
        options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.balancer = create_balancer(method, num_losses, **(options or {}))
        self.weights = dict(weights or {})
        self._names: list[str] = []
        self._step: int | None = None

    def forward(self, losses: Mapping[str, Tensor], step: int) -> Tensor:
        """The balanced loss, to go backward from.

        Args:
            losses: By name; the names of all calls are those of the first.
            step: The optimizer's step.

        Returns:
            A scalar: the balanced loss, or for a method that is no weighting of the losses the
            plain sum, whose backward pass balances.
        """
        self._names = self._names or list(losses)
        if set(self._names) != set(losses):
            msg = f"`losses` are {list(losses)}; in the first call they were {self._names}."
            raise ValueError(msg)
        ordered = [losses[name] * self.weights.get(name, 1.0) for name in self._names]
        first, self._step = step != self._step, step
        if first:
            return self._balance(ordered)
        with self.balancer.frozen():
            return self._balance(ordered)

    def _balance(self, losses: list[Tensor]) -> Tensor:
        if self.balancer.weighting:
            return self.balancer(losses)
        return balanced_loss(self.balancer, losses)

    def get_extra_state(self) -> dict[str, Any]:
        """The names, so that a resumed run gives each loss its own state."""
        return {"names": self._names}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_extra_state` gave."""
        self._names = list(state["names"])
