"""LoRA and frozen trunks: what losses share is what is trained, found in the graph.

    pip install equipoise
    python examples/lora_frozen.py

Frozen weights are in no graph, so `wrt="shared"` watches the adapters alone: gradients, memory and
messages are as small as they are. Nothing is to be said, and nothing changes when a layer thaws.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import equipoise as eq


class LoRA(nn.Module):
    """A frozen linear layer, and a trained product of rank 4 beside it."""

    def __init__(self, frozen: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(requires_grad=False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + self.up(self.down(x))


def main() -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(LoRA(nn.Linear(32, 256)), nn.GELU(), LoRA(nn.Linear(256, 256)), nn.GELU())
    heads = nn.ModuleDict({name: nn.Linear(256, 1) for name in ("first", "second")})
    model = nn.ModuleList([trunk, heads])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    print(
        f"{sum(p.numel() for p in trained)} of {sum(p.numel() for p in model.parameters())} trained"
    )

    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    balancer = eq.PCGrad(["first", "second"])
    for step in range(300):
        x = torch.randn(64, 32)
        targets = {"first": x[:, 0].sin(), "second": 10 * x[:, 1].sin()}
        hidden = trunk(x)
        losses = {
            name: (head(hidden)[:, 0] - targets[name]).square().mean()
            for name, head in heads.items()
        }
        if step == 0:
            rows = eq.measure(losses).matrix()
            print(f"watched: {rows.shape[1]} numbers, the adapters' own")
        optimizer.zero_grad()
        balancer.backward(losses)
        optimizer.step()
        if step % 100 == 99:
            print(step + 1, ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()))


if __name__ == "__main__":
    main()
