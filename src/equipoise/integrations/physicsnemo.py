"""PhysicsNeMo Sym (``nvidia-physicsnemo-sym`` 2.x): any balancer in the place of its aggregators.

PhysicsNeMo is imported only where its configuration is registered: an aggregator is a module that
is built from the parameters and the number of losses, and called with the losses and the step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from equipoise.integrations.balanced_loss import balanced_loss
from equipoise.losses import per_loss
from equipoise.registry import balancer_class, create_balancer
from equipoise.state import decoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from equipoise.balancer import Balancer


def register_loss_config() -> None:
    """Makes ``loss: equipoise`` known to the configuration of PhysicsNeMo Sym.

    Call it before the function that ``physicsnemo.sym.main`` decorates runs. Its trainer takes no
    ``loss`` whose fields it does not know, so a ``_target_`` alone is not enough. Then::

        defaults:
          - physicsnemo_default
          - loss: equipoise
          - _self_

        loss:
          method: learningrateannealing
          options: {reference: continuity}

        jit: false
        cuda_graphs: false

    Raises:
        ModuleNotFoundError: If PhysicsNeMo Sym is not installed. The ``physicsnemo.sym`` that comes
            with ``nvidia-physicsnemo`` itself has no trainer and no aggregators.
    """
    try:
        from hydra.core.config_store import ConfigStore
        from physicsnemo.sym.hydra.loss import LossConf
    except ModuleNotFoundError as error:
        msg = (
            f"PhysicsNeMo's trainer is not installed ({error}); it comes with the source "
            "distribution of nvidia-physicsnemo-sym."
        )
        raise ModuleNotFoundError(msg) from error

    @dataclass
    class BalancedConf(LossConf):
        _target_: str = "equipoise.integrations.physicsnemo.BalancedAggregator"
        method: str = "gradnorm"
        options: dict[str, Any] = field(default_factory=dict)

    ConfigStore.instance().store(group="loss", name="equipoise", node=BalancedConf)


class BalancedAggregator(nn.Module):
    """A balancer with the interface of ``physicsnemo.sym.loss.aggregator.Aggregator``.

    For the configuration see `register_loss_config`. The losses have PhysicsNeMo's names, those of
    the outputs that its constraints compare (``continuity``, ``momentum_x``, ``u``, ...). They are
    told at the first call, and only then is the balancer built: a method that treats one loss apart
    takes the first unless told, which may be that of a wall, so say ``reference``.

    It has no parameters, so BFGS works: several calls with one ``step`` (its closures, or gradient
    aggregation) learn at the first and use its weights in the others. PhysicsNeMo's trainer saves
    it with the optimizer and resumes it.

    Args:
        params: The parameters of the networks; unused, the losses' graph tells them.
        num_losses: How many losses there are; unused, the first call tells them.
        weights: What each loss is multiplied with before it is balanced; one where left out.
        method: The name of a balancer, see `list_balancers`.
        options: The keywords of its class.

    Raises:
        ValueError: If there is no such method, at the first call if an option or the name of a loss
            is unknown, or at a call with other losses than the first.
        TypeError: With ``jit`` or ``cuda_graphs``: the graph of each step is read.

    Example:
        >>> import torch
        >>> network = torch.nn.Linear(2, 2)
        >>> options = {"reference": "residual"}
        >>> aggregator = BalancedAggregator(
        ...     network.parameters(), 2, method="learningrateannealing", options=options
        ... )
        >>> wall, residual = network(torch.ones(4, 2)).square().mean(dim=0)
        >>> aggregator({"wall": wall, "residual": residual}, step=0).backward()
        >>> aggregator.balancer.names
        ('wall', 'residual')
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
        balancer_class(method)
        self.method = method
        self.options = dict(options or {})
        self.weights = dict(weights or {})
        self.register_module("_balancer", None)
        self._step: int | None = None

    @property
    def balancer(self) -> Balancer:
        """The balancer.

        Raises:
            RuntimeError: Before the first call, which tells the losses' names.
        """
        if self._balancer is None:
            msg = "The balancer is built at the first call, which tells the names of the losses."
            raise RuntimeError(msg)
        return self._balancer

    def forward(self, losses: Mapping[str, Tensor], step: Tensor | int) -> Tensor:
        """The balanced loss, to go backward from.

        Args:
            losses: By name; the names of all calls are those of the first.
            step: The optimizer's step, of which the trainer makes a tensor.

        Returns:
            A scalar: the balanced loss, or for a method that is no weighting of the losses the
            plain sum, whose backward pass balances.
        """
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            msg = "PhysicsNeMo records a CUDA graph, and weights change with each step: "
            raise TypeError(f"{msg}write cuda_graphs: false.")
        if self._balancer is None:
            self._build(tuple(losses))
        names = self.balancer.names
        if set(names) != set(losses):
            msg = f"`losses` are {list(losses)}; in the first call they were {list(names)}."
            raise ValueError(msg)
        weighted = {name: losses[name] * self.weights.get(name, 1.0) for name in names}
        # The trainer may hand over one tensor again and again, so its number is what is kept.
        first, self._step = int(step) != self._step, int(step)
        if first:
            return self._balance(weighted)
        with self.balancer.frozen():
            return self._balance(weighted)

    def _build(self, names: tuple[str, ...]) -> None:
        per_loss(self.weights, names, "weights", default=1.0)  # refuses a name that no loss has
        self._balancer = create_balancer(self.method, names, **self.options)

    def _balance(self, losses: Mapping[str, Tensor]) -> Tensor:
        if self.balancer.weighting:
            return self.balancer(losses)
        return balanced_loss(self.balancer, losses)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        """A run is resumed before its first call; the checkpoint knows the losses."""
        names = state_dict.get(f"{prefix}_balancer.loss_names")
        if self._balancer is None and names is not None:
            self._build(decoded(names))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __prepare_scriptable__(self) -> NoReturn:  # `torch.jit.script` calls it
        """Refuses TorchScript, which PhysicsNeMo's trainer turns an aggregator into by default.

        Raises:
            TypeError: With what to write.
        """
        msg = "The graph of each step is read, which TorchScript cannot; write jit: false."
        raise TypeError(msg)
