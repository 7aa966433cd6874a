"""Training loops as a user writes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import equipoise as eq

NAMES = ["near", "far"]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(3, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in NAMES)

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        features = torch.tanh(self.trunk(batch))
        return {
            name: head(features).square().mean()
            for name, head in zip(NAMES, self.heads, strict=True)
        }


def one_changed_line(network: Network, loader: list[Tensor]) -> dict[str, float]:
    balancer = eq.create_balancer("gradnorm", NAMES, alpha=0.12)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for batch in loader:
        optimizer.zero_grad()
        balancer.backward(network.losses(batch))
        optimizer.step()
    return balancer.weights


def by_hand(network: Network, batch: Tensor) -> float:
    balancer = eq.Uncertainty(NAMES)
    loss: Tensor = balancer(network.losses(batch))
    loss.backward()
    return loss.item()


def every_form_of_losses(network: Network, batch: Tensor) -> None:
    balancer = eq.UPGrad(len(NAMES))
    losses = network.losses(batch)
    balancer.backward(list(losses.values()), retain_graph=True)
    balancer.backward(tuple(losses.values()), retain_graph=True)
    balancer.backward(torch.stack(list(losses.values())))


def a_loss_that_this_batch_lacks(network: Network, batch: Tensor) -> None:
    losses: dict[str, Tensor | None] = {**network.losses(batch), "far": None}
    eq.DWA(NAMES).backward(losses)


def where_gradients_are_watched(network: Network, batch: Tensor) -> None:
    balancer = eq.MGDA(NAMES, wrt="representation")
    balancer.backward(network.losses(batch))
    balancer.backward(network.losses(batch), wrt=network.trunk)
    balancer.backward(network.losses(batch), wrt=network.trunk.weight)
    balancer.backward(network.losses(batch), wrt=network.trunk.parameters())


def with_loss_scale(network: Network, batch: Tensor) -> eq.Record:
    scaler = GradScaler("cpu", enabled=False)
    return eq.GradNorm(NAMES).backward(network.losses(batch), scaler=scaler)


def accumulated(network: Network, batches: list[Tensor]) -> None:
    balancer = eq.GradNorm(NAMES, every=2, nonfinite="raise")
    balancer.backward(network.losses(batches[0]))
    with balancer.frozen():
        for batch in batches[1:]:
            balancer.backward(network.losses(batch))


def told(balancer: eq.Balancer) -> str:
    record = balancer.last
    if record is None:
        return "no step yet"
    norms = "" if record.norms is None else f", longest gradient {record.norms.max().item():.3f}"
    lines = [f"{name} {number:.3f}" for name, number in balancer.report().items()]
    return f"total {record.total.item():.3f}{norms}\n" + "\n".join(lines)


def recorded(network: Network, batches: list[Tensor]) -> list[int]:
    balancer, steps = eq.Uncertainty(NAMES), list[int]()
    handle = balancer.register_record_hook(lambda *told: steps.append(told[2]), every=2)
    with eq.Recorder(balancer, every=1, measure=2) as recorder:
        recorder.track(lambda numbers, _: numbers["total"])
        for batch in batches:
            balancer.backward(network.losses(batch))
    handle.remove()
    assert len(recorder.history().entries) == len(batches)
    return steps


def looked_at(network: Network, batch: Tensor) -> tuple[Tensor, Tensor]:
    gradients = eq.measure(network.losses(batch), wrt="shared", measuring=eq.Measuring(rows=2))
    return gradients.norms(), gradients.cosines()


def main() -> None:
    network, batches = Network(), [torch.randn(5, 3) for _ in range(3)]
    assert set(one_changed_line(network, batches)) == set(NAMES)
    assert by_hand(network, batches[0]) > 0
    every_form_of_losses(network, batches[0])
    a_loss_that_this_batch_lacks(network, batches[0])
    where_gradients_are_watched(network, batches[0])
    assert with_loss_scale(network, batches[0]).names == tuple(NAMES)
    accumulated(network, batches)
    assert recorded(network, batches) == [0, 2]
    assert looked_at(network, batches[0])[0].shape == (2,)
    balancer = eq.GradNorm(NAMES)
    assert told(balancer) == "no step yet"
    balancer.backward(network.losses(batches[0]))
    assert "weight/near" in told(balancer)
