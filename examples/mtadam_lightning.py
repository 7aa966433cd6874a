"""Lightning with MTAdam: three regression targets of very different scale, no weights to tune.

pip install "equipoise[lightning]"
python examples/mtadam_lightning.py
"""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq
from equipoise.integrations.lightning import BalancedModule

TARGETS = ["product", "waves", "energy"]


class Network(BalancedModule):
    """A shared trunk with one head for each target."""

    def __init__(self) -> None:
        super().__init__()  # no balancer: the optimizer takes the losses apart
        self.trunk = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.heads = nn.ModuleDict({target: nn.Linear(32, 1) for target in TARGETS})

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        hidden = self.trunk(x)
        losses = {
            target: (head(hidden)[:, 0] - y[:, i]).square().mean()
            for i, (target, head) in enumerate(self.heads.items())
        }
        return self.balance(losses, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return eq.MTAdam(self.parameters(), lr=3e-3, losses=TARGETS)


def data() -> TensorDataset:
    x = torch.randn(512, 5)
    y = torch.stack([x[:, 0] * x[:, 1], 10 * x.sin().sum(1), 0.1 * x.square().mean(1)], dim=1)
    return TensorDataset(x, y)


def main() -> None:
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=20,
        log_every_n_steps=8,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Network(), DataLoader(data(), batch_size=64, shuffle=True))
    for name, number in trainer.callback_metrics.items():
        print(f"{name:20} {number:.4g}")


if __name__ == "__main__":
    main()
