from __future__ import annotations

import torch

from equipoise.benchmarks.bench.cases import bare_passes
from equipoise.benchmarks.bench.contender import ModelContender
from equipoise.benchmarks.bench.memory import peak_memory
from tests.benchmarks.bench.tiny import tiny

CPU = torch.device("cpu")
FLOAT = 4


def test_peak_is_the_highest_sum_of_what_lives_at_once():
    kept = []

    def run() -> None:
        kept.append(torch.empty(100))
        short = torch.empty(1000)
        del short
        kept.append(torch.empty(700))

    assert peak_memory(run, CPU) == (100 + 1000) * FLOAT


def test_what_was_there_before_does_not_count():
    before = torch.ones(1 << 16)
    assert peak_memory(before.neg_, CPU) == 0


def test_second_measurement_knows_nothing_of_the_first():
    kept = torch.empty(0)

    def run() -> None:
        nonlocal kept
        kept = torch.empty(500)

    assert [peak_memory(run, CPU) for _ in range(2)] == [500 * FLOAT] * 2


def test_gradient_of_a_sum_of_products_takes_what_can_be_counted_by_hand():
    weight = torch.ones(1000, requires_grad=True)
    factor = torch.full((1000,), 2.0)

    def run() -> None:
        (weight * factor).sum().backward()

    # Alive when the gradient is written: the sum, the one it starts from, and the gradient. Before
    # that the product, freed once summed; the gradient of the product is one number, expanded.
    assert peak_memory(run, CPU) == (1000 + 2) * FLOAT


def test_stacked_passes_hold_a_row_for_each_loss_and_one_gradient():
    losses = 6
    model = tiny(losses)
    trunk_bytes = sum(parameter.nbytes for parameter in model.trunk.parameters())
    peak = peak_memory(lambda: ModelContender(model, bare_passes).steps(1), CPU)
    assert (losses + 1) * trunk_bytes <= peak < (losses + 1.5) * trunk_bytes
