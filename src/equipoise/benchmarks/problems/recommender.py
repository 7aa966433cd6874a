"""A recommender: clicks, rare purchases among them, noisy ratings, and seconds watched."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.benchmarks.metrics import DELTA_M, Metric
from equipoise.benchmarks.problem import Problem, Trial

TASKS = ("click", "purchase", "rating", "length")
SPLIT = (4000, 1000, 1000)
"""Training, validation and test: pairs of a user and an item."""

_USERS, _ITEMS, _TASTES = 60, 40, 2
_WIDTH = 8
_RATING_USERS = 5
"""Of so many users one rates what was clicked."""


def recommender() -> Problem:
    r"""Four tasks of unequal frequency and noise, from shared embeddings of users and items.

    Users and items have two tastes each, :math:`a_u, b_i, c_i \sim N(0, I)`. With
    :math:`l = a_u \cdot b_i / \sqrt 2` a click has the probability :math:`\sigma(2 l)`; what was
    clicked is bought with :math:`\sigma(0.7 a_u \cdot (b_i + c_i) - 2)`, so the loss of purchases
    has the clicked half of a batch; every fifth user rates what was clicked, :math:`l + N(0, 1)`;
    everybody watches for :math:`0.6 l + N(0, 1)`. The model joins both embeddings and their
    product. The references of ``Delta_m`` are the mean test results over ten seeds of the same
    model trained for one task alone, at the best of three rates.

    Source: an invention, made to test what `equipoise.diagnose` advises on a problem that no rule
    was chosen by; purchases that are seen among clicks only are those of Ma et al. 2018 (ESMM,
    arXiv 1804.07931).

    Returns:
        The problem.
    """
    return Problem(
        name="recommender",
        description=(
            "Clicks, purchases among them, a fifth of the users' ratings and the seconds watched, "
            "from shared embeddings: tasks of unequal frequency and noise."
        ),
        losses=TASKS,
        metric=DELTA_M,
        higher_is_better=True,
        start=_start,
        batch_size=64,
        lr=1e-2,
        balancers=("equal", "firstvalue", "mtadam", "gradnorm", "uncertainty", "moco"),
        labels={"equal": "plain sum"},
        steps=800,
        metrics=(
            Metric("click AUC", higher_is_better=True, reference=0.691),
            Metric("purchase AUC", higher_is_better=True, reference=0.642),
            Metric("rating RMSE", higher_is_better=False, reference=1.42),
            Metric("length RMSE", higher_is_better=False, reference=1.15),
        ),
    )


class _Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(_USERS, _WIDTH), nn.Embedding(_ITEMS, _WIDTH)
        self.trunk = nn.Sequential(nn.Linear(3 * _WIDTH, 32), nn.ReLU())
        self.heads = nn.Linear(32, len(TASKS))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """``[N, 4]``: two logits, a rating and a length."""
        user, item = self.users(users), self.items(items)
        found: Tensor = self.heads(self.trunk(torch.cat([user, item, user * item], dim=1)))
        return found


def draw_visits(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Users ``[6000]``, items ``[6000]`` and what came of it, ``[6000, 4]`` in the tasks' order.

    Args:
        generator: Decides all of it.
    """
    count = sum(SPLIT)
    users = torch.randint(_USERS, (count,), generator=generator)
    items = torch.randint(_ITEMS, (count,), generator=generator)
    likes, first, second = (
        torch.randn(many, _TASTES, generator=generator) for many in (_USERS, _ITEMS, _ITEMS)
    )
    liked = (likes[users] * first[items]).sum(dim=1) / _TASTES**0.5
    wanted = 0.7 * (likes[users] * (first + second)[items]).sum(dim=1)
    chances = torch.rand(2, count, generator=generator)
    clicked = chances[0] < torch.sigmoid(2 * liked)
    bought = clicked & (chances[1] < torch.sigmoid(wanted - 2))
    noise = torch.randn(2, count, generator=generator)
    found = [clicked.float(), bought.float(), liked + noise[0], 0.6 * liked + noise[1]]
    return users, items, torch.stack(found, dim=1)


def area_under_curve(scores: Tensor, labels: Tensor) -> float:
    """The probability that a positive sample has a higher score than a negative one.

    Args:
        scores: ``[N]``.
        labels: ``[N]``, 1 or 0, both there.
    """
    positive, negative = scores[labels > 0], scores[labels == 0]
    return float((positive[:, None] > negative).double().mean())


def _start(seed: int) -> Trial:
    drawn = draw_visits(torch.Generator().manual_seed(seed))
    training, validation, test = zip(*(each.split(SPLIT) for each in drawn), strict=True)
    model = _Recommender()

    def compute_losses(users: Tensor, items: Tensor, wanted: Tensor) -> Mapping[str, Tensor]:
        found = model(users, items)
        clicked = wanted[:, 0] > 0
        rated = clicked & (users % _RATING_USERS == 0)
        entropy, error = F.binary_cross_entropy_with_logits, F.mse_loss
        losses = {"click": entropy(found[:, 0], wanted[:, 0])}
        if clicked.any():
            losses["purchase"] = entropy(found[clicked, 1], wanted[clicked, 1])
        if rated.any():
            losses["rating"] = error(found[rated, 2], wanted[rated, 2])
        return {**losses, "length": error(found[:, 3], wanted[:, 3])}

    def measure(users: Tensor, items: Tensor, wanted: Tensor) -> dict[str, float]:
        found = model(users, items)
        clicked = wanted[:, 0] > 0
        return {
            "click AUC": area_under_curve(found[:, 0], wanted[:, 0]),
            "purchase AUC": area_under_curve(found[clicked, 1], wanted[clicked, 1]),
            "rating RMSE": float(F.mse_loss(found[clicked, 2], wanted[clicked, 2]).sqrt()),
            "length RMSE": float(F.mse_loss(found[:, 3], wanted[:, 3]).sqrt()),
        }

    return Trial(
        model=model,
        data=training,
        compute_losses=compute_losses,
        evaluate=lambda: measure(*test),
        validate=lambda: measure(*validation),
    )
