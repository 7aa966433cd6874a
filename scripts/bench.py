"""What balancing costs: the time of a step over that of `sum(losses).backward()`.

A trunk of 4 x 1024 and T heads, batch 256, forward pass included. Each contender takes turns
with the plain sum in the same process and the median of the paired ratios is printed, so that a
busy machine slows both. Run it on an idle one all the same: `make bench`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from gradnorm_pytorch import GradNormLossWeighter
from torch import Tensor, nn
from torchjd.aggregation import UPGrad
from torchjd.autojac import jac_to_grad, mtl_backward

import equipoise as eq

COUNTS = (2, 5, 10)
WARM_UP = 3
ROUNDS = 15


class Heads(nn.Module):
    """A trunk of four layers of 1024 and `count` heads, each with a squared error."""

    def __init__(self, count: int) -> None:
        super().__init__()
        layers = [module for _ in range(4) for module in (nn.Linear(1024, 1024), nn.ReLU())]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(1024, 1) for _ in range(count))
        self.inputs = torch.randn(256, 1024)
        self.targets = torch.randn(count, 256, 1)

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """The shared representation and the losses."""
        shared = self.trunk(self.inputs)
        pairs = zip(self.heads, self.targets, strict=True)
        return shared, [nn.functional.mse_loss(head(shared), target) for head, target in pairs]


Backward = Callable[[Tensor, list[Tensor]], object]


def plain_sum(_shared: Tensor, losses: list[Tensor]) -> None:
    """What every contender is compared with."""
    torch.stack(losses).sum().backward()


def balanced(balancer: eq.Balancer) -> Backward:
    """A step with one of our balancers."""
    return lambda _shared, losses: balancer.backward(losses)


def torchjd_upgrad(model: Heads) -> Backward:
    """A step of TorchJD's recommended loop."""
    aggregator = UPGrad()

    def backward(shared: Tensor, losses: list[Tensor]) -> None:
        mtl_backward(losses, features=shared)
        jac_to_grad(model.trunk.parameters(), aggregator)

    return backward


def gradnorm_pytorch(model: Heads) -> Backward:
    """A step of gradnorm-pytorch at the trunk's last layer."""
    last = model.trunk[-2].weight
    weighter = GradNormLossWeighter(num_losses=len(model.heads), grad_norm_parameters=last)
    return lambda _shared, losses: weighter.backward(losses)


def contenders(model: Heads) -> dict[str, Backward]:
    """Every step that is timed, by the name it is printed under."""
    count = len(model.heads)
    return {
        "Equal": balanced(eq.Equal(count)),
        "Fixed": balanced(eq.Fixed(count, weights=[1.0] * count)),
        "Uncertainty": balanced(eq.Uncertainty(count)),
        "SoftAdapt": balanced(eq.SoftAdapt(count)),
        "GradNorm": balanced(eq.GradNorm(count)),
        "GradNorm every=10": balanced(eq.GradNorm(count, every=10)),
        "TorchJD UPGrad": torchjd_upgrad(model),
        "gradnorm-pytorch": gradnorm_pytorch(model),
    }


def seconds(model: Heads, backward: Backward, steps: int) -> float:
    """Time of so many steps."""
    start = time.perf_counter()
    for _ in range(steps):
        model.zero_grad()
        backward(*model())
    return time.perf_counter() - start


def ratio(model: Heads, backward: Backward, steps: int) -> float:
    """Median over the rounds of the contender's time over the plain sum's just before it."""
    seconds(model, backward, WARM_UP)
    pairs = [
        (seconds(model, plain_sum, steps), seconds(model, backward, steps)) for _ in range(ROUNDS)
    ]
    return statistics.median(other / plain for plain, other in pairs)


def main() -> None:
    """Prints one row a contender, one column a number of losses."""
    torch.manual_seed(0)
    models = {count: Heads(count) for count in COUNTS}
    rows = {count: contenders(model) for count, model in models.items()}
    print(f"{'':20}" + "".join(f"{f'T={count}':>8}" for count in COUNTS))
    for name in rows[COUNTS[0]]:
        # Ten steps at a time for what does its work at each tenth.
        steps = 10 if "every=10" in name else 1
        ratios = [ratio(model, rows[count][name], steps) for count, model in models.items()]
        print(f"{name:20}" + "".join(f"{value:8.2f}" for value in ratios), flush=True)


if __name__ == "__main__":
    main()
