"""A recommender with many tasks: look first, and balance only if there is something to balance.

    pip install equipoise
    python examples/recommender.py

Six signals about a user and an item share their embeddings; some are rare, and one (a report) is
the opposite of the others. The diagnosis finds nothing that stands out from the noise of a batch,
and the plain sum does as well as two methods on the Gramian, which `every=10` makes affordable.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import equipoise as eq

RATES = {"view": 0.5, "click": 0.2, "like": 0.1, "share": 0.05, "buy": 0.02, "report": 0.1}
USERS, ITEMS = 60, 80


class Recommender(nn.Module):
    """Embeddings and a trunk for all signals, one layer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, 16), nn.Embedding(ITEMS, 16)
        self.trunk = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.heads = nn.ModuleDict({signal: nn.Linear(32, 1) for signal in RATES})

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        pair = torch.cat([self.user(batch["user"]), self.item(batch["item"])], dim=1)
        hidden = self.trunk(pair)
        return {
            signal: F.binary_cross_entropy_with_logits(head(hidden)[:, 0], batch[signal])
            for signal, head in self.heads.items()
        }


class World:
    """Users like items whose hidden traits are near to theirs, and report those that are far."""

    def __init__(self) -> None:
        self.user, self.item = torch.randn(USERS, 2), torch.randn(ITEMS, 2)

    def batch(self, count: int = 256) -> dict[str, Tensor]:
        user, item = torch.randint(USERS, (count,)), torch.randint(ITEMS, (count,))
        liking = (self.user[user] * self.item[item]).sum(dim=1) / 2
        found = {"user": user, "item": item}
        for signal, rate in RATES.items():
            sign = -1 if signal == "report" else 1
            cut = torch.tensor(rate).logit()
            found[signal] = (torch.rand(count) < (sign * 3 * liking + cut).sigmoid()).float()
        return found


def train(balancer: eq.Balancer, world: World) -> Tensor:
    torch.manual_seed(1)
    model = Recommender()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(600):
        optimizer.zero_grad()
        balancer.backward(model(world.batch()))
        optimizer.step()
    with torch.no_grad():
        return torch.stack(list(model(world.batch(20000)).values()))


def main() -> None:
    torch.manual_seed(0)
    world = World()
    diagnosis = eq.diagnose(Recommender(), [world.batch() for _ in range(12)])
    print(f"verdict: {diagnosis.verdict}")
    print(f"{'test loss':18}", *(f"{signal:>7}" for signal in RATES))
    for balancer in (eq.Equal(RATES), eq.UPGrad(RATES, every=10), eq.FairGrad(RATES, every=10)):
        losses = train(balancer, world)
        print(f"{type(balancer).__name__:18}", *(f"{loss:7.3f}" for loss in losses))


if __name__ == "__main__":
    main()
