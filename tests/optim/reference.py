"""MTAdam as its authors publish it, slowly: T first and T second moments, one tensor at a time.

In float64, with what the authors' code leaves open stated: a loss that a step does not have rests,
and one that does not reach a parameter gives it a zero gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class OneParameter:
    value: Tensor
    count: int
    lr: float = 1e-3
    betas: tuple[float, float, float] = (0.9, 0.999, 0.9)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    ranks: tuple[float, ...] = ()
    t: int = 0
    norms: dict[int, float] = field(default_factory=dict)

    def __post_init__(self):
        self.m = [torch.zeros_like(self.value) for _ in range(self.count)]
        self.v = [torch.zeros_like(self.value) for _ in range(self.count)]
        self.largest = [torch.zeros_like(self.value) for _ in range(self.count)]

    def step(self, gradients: dict[int, Tensor | None]):
        """Gradients of the losses that the step has; None where a loss does not reach this."""
        if all(gradient is None for gradient in gradients.values()):
            return
        self.t += 1
        beta1, beta2, beta3 = self.betas
        for i in range(self.count):
            if i not in gradients:
                self.m[i] = beta1 * self.m[i]
                continue
            given = gradients[i]
            g = torch.zeros_like(self.value) if given is None else given
            norm = math.sqrt(float((g * g).sum()))
            old = self.norms.get(i)
            self.norms[i] = norm if old is None else beta3 * old + (1 - beta3) * norm
            if self.norms[i] > 1e-10:
                g = g * self.ranks[i] * self._anchor(i) / self.norms[i]
            g = g + self.weight_decay * self.value
            self.m[i] = beta1 * self.m[i] + (1 - beta1) * g
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * g * g
            self.largest[i] = torch.maximum(self.largest[i], self.v[i])
        self._move(beta1, beta2)

    def _anchor(self, i):
        return next(self.norms[j] for j in range(i + 1) if self.norms.get(j, 0.0) > 1e-10)

    def _move(self, beta1, beta2):
        moments = self.largest if self.amsgrad else self.v
        correction = math.sqrt(1 - beta2**self.t)
        denominators = [v.sqrt() / correction + self.eps for v in moments]
        denominator = torch.stack(denominators).amax(dim=0)
        for m in self.m:
            self.value = self.value - self.lr / (1 - beta1**self.t) * m / denominator
