"""What the integrations take: any balancer, a wrapper too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

import equipoise as eq
from equipoise.integrations.accelerate import AccumulatedBackward
from equipoise.integrations.balanced_loss import balanced_loss
from equipoise.integrations.physicsnemo import BalancedAggregator

if TYPE_CHECKING:
    from equipoise.integrations.deepxde import Balance
    from equipoise.integrations.lightning import BalancedModule
    from equipoise.integrations.transformers import BalancedTrainer


def goal() -> eq.Balancer:
    return eq.Primary(eq.UPGrad(["goal", "help"]), "goal")


def in_lightning(kind: type[BalancedModule], losses: dict[str, Tensor]) -> Tensor:
    return kind(goal()).balance(losses, 0)


def in_transformers(trainer: BalancedTrainer) -> eq.Balancer:
    trainer.balance(goal())
    return trainer.balancer


def in_deepxde(kind: type[Balance], optimizer: eq.MTAdam) -> Balance:
    return kind(optimizer) if optimizer.names else kind(goal())


class Accelerator:
    sync_gradients = True

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)


def in_accelerate(losses: dict[str, Tensor]) -> eq.Record:
    return AccumulatedBackward(goal(), Accelerator())(losses)


def in_physicsnemo(losses: dict[str, Tensor]) -> eq.Balancer:
    weights, options = {"goal": 2.0}, {"alpha": 0.5}
    aggregator = BalancedAggregator([], len(losses), weights, method="crmogm", options=options)
    loss: Tensor = aggregator(losses, 0)
    assert loss.shape == ()
    return aggregator.balancer


def in_any_loop(losses: dict[str, Tensor]) -> Tensor:
    return balanced_loss(goal(), losses)


def losses_of(weight: Tensor) -> dict[str, Tensor]:
    return {"goal": weight.sum(), "help": -weight.square().sum()}


def main() -> None:
    weight = torch.ones(2, requires_grad=True)
    in_any_loop(losses_of(weight)).backward()
    assert in_accelerate(losses_of(weight)).names == ("goal", "help")
    assert isinstance(in_physicsnemo(losses_of(weight)), eq.CRMOGM)
