"""The verdict on problems whose answer is known."""

from __future__ import annotations

import pytest

import equipoise as eq
from tests.monitor.problems import KINDS, SETTINGS, aligned, linear

SEEDS = 30


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict_is_right_on_29_of_30_seeds(kind):
    expected, build = KINDS[kind]
    found = [
        eq.diagnose(*build(SETTINGS[seed % len(SETTINGS)], seed)).verdict for seed in range(SEEDS)
    ]
    assert found.count(expected) >= SEEDS - 1, found


@pytest.mark.parametrize("kind", ["conflict, linear", "scale, linear", "both, linear"])
def test_the_sentence_names_the_losses(kind):
    diagnosis = eq.diagnose(*KINDS[kind][1](SETTINGS[0], 0))
    assert "'l0'" in diagnosis.sentence
    assert "'l1'" in diagnosis.sentence


def test_no_share_of_a_gradient_is_rounded_to_none():
    diagnosis = eq.diagnose(*linear(SETTINGS[0], 0, aligned(SETTINGS[0], 0, 1e7), 1.0))
    assert "'l1', which has < 0.01% of the gradient" in diagnosis.sentence
    assert "< 0.01%" in str(diagnosis).splitlines()[2]
    assert "&lt; 0.01%" in diagnosis._repr_html_()
