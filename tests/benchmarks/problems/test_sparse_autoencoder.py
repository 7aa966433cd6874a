from __future__ import annotations

import math

import pytest
import torch

from equipoise.benchmarks.problems.probe import probe_accuracy
from equipoise.benchmarks.problems.sparse_autoencoder import TARGET, sparsity


def test_sparsity_is_the_divergence_of_mean_activities():
    code = torch.tensor([[0.1, 0.9], [0.3, 0.9]])
    expected = sum(
        TARGET * math.log(TARGET / mean) + (1 - TARGET) * math.log((1 - TARGET) / (1 - mean))
        for mean in (0.2, 0.9)
    )
    assert float(sparsity(code)) == pytest.approx(expected, rel=1e-5)
    assert sparsity(torch.zeros(3, 2)).isfinite()


def test_a_probe_reads_classes_that_are_there_and_guesses_those_that_are_not():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(10, (600,), generator=generator)
    noise = torch.randn(600, 10, generator=generator)
    code = torch.nn.functional.one_hot(classes, 10) + 0.1 * noise
    known, asked = (code[:400], classes[:400]), (code[400:], classes[400:])
    assert probe_accuracy(known, asked) == 1
    assert probe_accuracy((1e4 * code[:400], known[1]), (1e4 * code[400:], asked[1])) == 1
    blind = probe_accuracy((noise[:400], known[1]), (noise[400:], asked[1]))
    assert blind < 0.25
