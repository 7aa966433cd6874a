"""GradNorm's toy regression: tasks that differ in nothing but their scale."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from equipoise.benchmarks.problem import Problem, Trial

INPUTS = 250
OUTPUTS = 100
_HIDDEN = 100
_HIDDEN_LAYERS = 4
_TRAINING_SAMPLES = 10_000
_TEST_SAMPLES = 1_000
_VALIDATION_SAMPLES = 1_000


def toy_regression() -> Problem:
    r"""Two regression tasks with the scales 1 and 100.

    Task ``i`` is :math:`f_i(x) = \sigma_i \tanh((B + \epsilon_i) x)`, where all tasks share
    :math:`B \sim N(0, 10)` and each has its own :math:`\epsilon_i \sim N(0, 3.5)`. The model is a
    trunk of four layers of 100 ReLU units and one affine layer a task; the losses are mean squared
    errors. The metric is the sum of the test losses, each divided by its value before training, so
    that every task counts the same.

    Source: Chen et al. 2018 (arXiv 1711.02257), Section 4; its alpha is 0.12.

    Returns:
        The problem.

    Differs from the paper in nothing it states; what it leaves open is chosen here: the second
    numbers of the two normal distributions are variances, the inputs are standard normal.
    """
    return _problem("toy_regression", (1.0, 100.0))


def toy_regression_ten() -> Problem:
    """The same with ten tasks, whose scales lie between 1 and 100 in equal ratios.

    Source: Chen et al. 2018 (arXiv 1711.02257), Section 4, which does not print its ten scales.

    Returns:
        The problem.
    """
    return _problem("toy_regression_ten", tuple(10 ** (2 * i / 9) for i in range(10)))


def _problem(name: str, scales: tuple[float, ...]) -> Problem:
    return Problem(
        name=name,
        description=(
            f"{len(scales)} regression tasks, equally hard, that differ only in their "
            f"scale, which goes from {scales[0]:g} to {scales[-1]:g}."
        ),
        losses=tuple(f"task_{i}" for i in range(len(scales))),
        metric="normalised test loss",
        higher_is_better=False,
        start=lambda seed: _start(seed, scales),
        epochs=10,
        batch_size=100,
        lr=1e-3,
        balancers=(
            "equal",
            "right",
            "gradnorm:alpha=0.12",
            "mtadam",
            "softadapt",
            "uncertainty",
            "firstvalue",
        ),
        labels={"equal": "plain sum", "right": "right weights"},
    )


class _TrunkAndHeads(nn.Module):
    def __init__(self, tasks: int) -> None:
        super().__init__()
        widths = [INPUTS] + [_HIDDEN] * _HIDDEN_LAYERS
        layers = [nn.Linear(*pair) for pair in pairwise(widths)]
        self.trunk = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))
        self.heads = nn.ModuleList(nn.Linear(_HIDDEN, OUTPUTS) for _ in range(tasks))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.trunk(x)
        return [head(features) for head in self.heads]


def _start(seed: int, scales: tuple[float, ...]) -> Trial:
    generator = torch.Generator().manual_seed(seed)
    common = 10**0.5 * torch.randn(OUTPUTS, INPUTS, generator=generator)
    own = 3.5**0.5 * torch.randn(len(scales), OUTPUTS, INPUTS, generator=generator)
    counts = [_TRAINING_SAMPLES, _TEST_SAMPLES, _VALIDATION_SAMPLES]
    judged = torch.randn(_TRAINING_SAMPLES + _TEST_SAMPLES, INPUTS, generator=generator)
    # Drawn last, so that what is validated with changes nothing else.
    held_out = torch.randn(_VALIDATION_SAMPLES, INPUTS, generator=generator)
    inputs = torch.cat([judged, held_out])
    targets = torch.tensor(scales).reshape(-1, 1, 1) * torch.tanh(inputs @ (common + own).mT)
    # Samples first, so that a batch is a slice of both tensors.
    training, test, validation = zip(
        inputs.split(counts), targets.transpose(0, 1).split(counts), strict=True
    )
    model = _TrunkAndHeads(len(scales))

    def compute_losses(x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        errors = [(out - y[:, i]).square().mean() for i, out in enumerate(model(x))]
        return {f"task_{i}": error for i, error in enumerate(errors)}

    @torch.no_grad()
    def losses_on(samples: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(list(compute_losses(*samples).values())).double()

    initial, initial_on_validation = losses_on(test), losses_on(validation)
    return Trial(
        model=model,
        data=training,
        compute_losses=compute_losses,
        evaluate=lambda: float((losses_on(test) / initial).sum()),
        validate=lambda: float((losses_on(validation) / initial_on_validation).sum()),
        right_weights={f"task_{i}": scale**-2 for i, scale in enumerate(scales)},
    )
