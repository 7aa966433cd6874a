"""A detector: classes, boxes and masks, where many batches have no masks and some no object.

    pip install equipoise
    python examples/detector.py

A loss that a batch does not have is `None`, or left out: the others are balanced among themselves,
and what was learned about it waits. A zero without a graph, as detectors return it for a batch
without boxes, counts as absent too.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import equipoise as eq

LOSSES = ("class", "box", "mask")


class Detector(nn.Module):
    """One bright square in a dark image: is it there, where, and which pixels?"""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
        )
        self.there = nn.Linear(16 * 64, 1)
        self.corner = nn.Linear(16 * 64, 2)
        self.pixels = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor, labels: dict[str, Tensor]) -> dict[str, Tensor | None]:
        features = self.backbone(image)
        flat, there = features.flatten(1), labels["there"]
        masks = labels.get("mask")
        corner = self.corner(flat)[there]
        return {
            "class": F.binary_cross_entropy_with_logits(self.there(flat)[:, 0], there.float()),
            # As detection libraries do it: a number where no image has a box.
            "box": F.l1_loss(corner, labels["corner"][there]) if there.any() else torch.zeros(()),
            "mask": None
            if masks is None
            else F.binary_cross_entropy_with_logits(self.pixels(features)[:, 0], masks),
        }


def batch(count: int, *, masked: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Images of 8 x 8 pixels, with a square of 3 x 3 in each second one."""
    corner = torch.randint(0, 6, (count, 2))
    there = torch.rand(count) < 0.5
    rows = torch.arange(8)
    inside = [(rows >= c[:, None]) & (rows < c[:, None] + 3) for c in corner.T]
    mask = (inside[0][:, :, None] & inside[1][:, None, :] & there[:, None, None]).float()
    image = (mask + 0.3 * torch.randn(count, 8, 8))[:, None]
    labels = {"there": there, "corner": corner.float()}
    return image, labels | ({"mask": mask} if masked else {})


def main() -> None:
    warnings.filterwarnings("ignore", message=".*has no graph.*")  # told once, for boxes
    torch.manual_seed(0)
    model = Detector()
    balancer = eq.FirstValue(LOSSES)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    had = dict.fromkeys(LOSSES, 0)
    for _ in range(600):
        masked = bool(torch.rand(()) < 0.3)  # masks are expensive to label
        optimizer.zero_grad()
        record = balancer.backward(model(*batch(8, masked=masked)))
        optimizer.step()
        for place in record.present:
            had[LOSSES[place]] += 1
    with torch.no_grad():
        losses = model(*batch(500, masked=True))
    for name in LOSSES:
        print(f"{name:6} in {had[name]:3} of 600 steps, loss {losses[name]:.3f}")


if __name__ == "__main__":
    main()
