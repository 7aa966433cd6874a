"""Handwritten digits with one loss a class, and weights that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.problems.pictures import load_digits

CLASSES = 10
_TRAINING_SHARE, _VALIDATION_SHARE = 0.8, 0.1
_LARGEST_WEIGHT = 1000.0
_WATCHED_SAMPLES = 256


def digits() -> Problem:
    r"""Ten losses of very different scale on scikit-learn's 8 x 8 digits.

    Loss ``c`` is :math:`w_c \sum_{n: y_n = c} -\log p(y_n | x_n) / N` over a batch of ``N``
    samples, with :math:`w_0 = 1` and the other :math:`w_c` uniform in [0, 1000), drawn anew for
    each seed. A batch without a sample of class ``c`` has no loss ``c``. Dividing the :math:`w_c`
    out again gives back the ordinary cross-entropy, which makes the reference row ``right``.

    Source: the protocol of Malkiel & Wolf 2020 (arXiv 2006.14683) on MNIST.

    Returns:
        The problem.

    Differs from the paper in the data (digits that come with scikit-learn, nothing is downloaded),
    and from the authors' script, where the weights cancel inside the loss's own mean.
    """
    return Problem(
        name="digits",
        description=(
            "Handwritten digits, one loss for each class; nine of the ten losses were multiplied "
            "with random numbers up to 1000, and no method is told which."
        ),
        losses=tuple(f"digit_{c}" for c in range(CLASSES)),
        metric="test accuracy",
        higher_is_better=True,
        start=_start,
        epochs=5,
        batch_size=128,
        lr=1e-3,
        balancers=(
            "equal",
            "right",
            "mtadam",
            "gradnorm",
            "softadapt",
            "uncertainty",
            "firstvalue",
        ),
        labels={"equal": "wrong weights (plain sum)", "right": "right weights"},
    )


def _start(seed: int) -> Trial:
    generator = torch.Generator().manual_seed(seed)
    images, labels = load_digits()
    order = torch.randperm(len(images), generator=generator)
    known = int(_TRAINING_SHARE * len(order)), int(_VALIDATION_SHARE * len(order))
    training, validation, test = order.tensor_split([known[0], sum(known)])
    scales = _LARGEST_WEIGHT * torch.rand(CLASSES, generator=generator)
    scales[0] = 1.0
    model = _build_model()

    def compute_losses(images: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        return class_losses(model(images), labels, scales)

    @torch.no_grad()
    def accuracy(part: Tensor) -> float:
        return float((model(images[part]).argmax(dim=1) == labels[part]).double().mean())

    @torch.no_grad()
    def kpis() -> dict[str, float]:
        watched = training[:_WATCHED_SAMPLES]
        right = model(images[watched]).argmax(dim=1) == labels[watched]
        of_class = (right[labels[watched] == c] for c in range(CLASSES))
        return {f"digit_{c}": float(hits.double().mean()) for c, hits in enumerate(of_class)}

    return Trial(
        model=model,
        data=(images[training], labels[training]),
        compute_losses=compute_losses,
        evaluate=lambda: accuracy(test),
        right_weights={f"digit_{c}": float(1 / scale) for c, scale in enumerate(scales)},
        kpis=kpis,
        validate=lambda: accuracy(validation),
    )


def _build_model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


def class_losses(logits: Tensor, labels: Tensor, scales: Tensor) -> dict[str, Tensor]:
    """The scaled loss of each class that the batch has.

    Args:
        logits: ``[N, 10]``.
        labels: ``[N]``, the classes.
        scales: ``[10]``, what each class's loss is multiplied with.

    Returns:
        A scalar for each class present, under ``"digit_<class>"``.

    Example:
        >>> losses = class_losses(torch.zeros(2, 10), torch.tensor([3, 3]), torch.ones(10))
        >>> {name: round(float(loss), 3) for name, loss in losses.items()}
        {'digit_3': 2.303}
    """
    nll = F.cross_entropy(logits, labels, reduction="none")
    return {
        f"digit_{c}": scales[c] * nll[labels == c].sum() / len(labels)
        for c in labels.unique().tolist()
    }
