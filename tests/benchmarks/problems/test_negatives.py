from __future__ import annotations

import pytest
import torch

import equipoise as eq
from equipoise.benchmarks.compare.training import start_trial
from equipoise.benchmarks.problems.negatives import LOUD, SPLIT, loud_negatives, negatives


@pytest.mark.parametrize("problem", [negatives, loud_negatives])
def test_picture_and_negative_want_the_opposite_in_every_batch(problem):
    trial = start_trial(problem(), 0)
    shared = list(trial.model.decoder.parameters())
    for batch in zip(*(part.split(64)[:3] for part in trial.data), strict=True):
        losses = trial.compute_losses(*batch)
        one, two = (
            torch.cat([g.flatten() for g in torch.autograd.grad(losses[name], shared)])
            for name in ("picture", "negative")
        )
        scale = LOUD if problem is loud_negatives else 1.0
        torch.testing.assert_close(two, -scale * one)


@pytest.mark.parametrize(
    ("problem", "verdict"), [(negatives, "conflict"), (loud_negatives, "both")]
)
def test_the_diagnosis_is_the_one_that_its_evidence_is_about(problem, verdict):
    trial = start_trial(problem(), 0)
    batches = list(zip(*(part.split(64) for part in trial.data), strict=True))
    assert eq.diagnose(lambda batch: trial.compute_losses(*batch), batches).verdict == verdict


def test_every_image_is_trained_on_or_chosen_by_or_tested_with():
    assert sum(SPLIT) == 1797
    assert [len(part) for part in start_trial(negatives(), 0).data] == [SPLIT[0]] * 2


def test_untrained_the_decoder_gives_the_mean_picture_for_both():
    trial = start_trial(negatives(), 0)
    images, labels = trial.data
    wanted = (images - images.mean(dim=0)).flatten(1)
    zero = trial.compute_losses(images, labels)
    torch.testing.assert_close(zero["picture"], wanted.square().mean())
    assert zero["negative"] == zero["picture"]
