from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.training import start_trial, train
from equipoise.benchmarks.methods import Method
from equipoise.benchmarks.problems.digits import class_losses, digits


def test_right_weights_give_back_the_ordinary_cross_entropy():
    trial = start_trial(digits(), 3)
    images, labels = (tensor[:200] for tensor in trial.data)
    losses = trial.compute_losses(images, labels)
    undone = sum(trial.right_weights[name] * loss for name, loss in losses.items())
    expected = F.cross_entropy(trial.model(images), labels)
    torch.testing.assert_close(undone, expected)


def test_scales_are_one_for_class_0_and_random_up_to_1000_for_the_others():
    of_seed = [digits().start(seed).right_weights for seed in range(20)]
    scales = torch.tensor([[1 / weight for weight in weights.values()] for weights in of_seed])
    assert (scales[:, 0] == 1).all()
    assert (scales <= 1000).all()
    assert scales.max() > 900
    assert (scales[0, 1:] != scales[1, 1:]).all()


def test_a_class_that_the_batch_lacks_has_no_loss():
    losses = class_losses(torch.zeros(3, 10), torch.tensor([4, 4, 7]), torch.ones(10))
    assert set(losses) == {"digit_4", "digit_7"}


def test_a_loss_is_the_sum_over_its_class_divided_by_the_batch_size():
    logits = torch.randn(6, 10, dtype=torch.float64)
    labels = torch.tensor([1, 1, 1, 2, 2, 9])
    scales = torch.arange(10.0, dtype=torch.float64)
    losses = class_losses(logits, labels, scales)
    for c in (1, 2, 9):
        nll = [-torch.log_softmax(row, dim=0)[c] for row in logits[labels == c]]
        torch.testing.assert_close(losses[f"digit_{c}"], c * sum(nll) / 6)


def test_the_same_seed_gives_the_same_trial_and_another_gives_another():
    one, same, other = (start_trial(digits(), seed) for seed in (5, 5, 6))
    for left, right in zip(one.model.parameters(), same.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(one.data[0], same.data[0])
    assert not torch.equal(one.data[0], other.data[0])
    assert one.right_weights == same.right_weights != other.right_weights


def test_four_fifths_of_the_images_are_trained_on():
    trial = start_trial(digits(), 0)
    assert len(trial.data[0]) == 1437  # of 1797


def test_validation_images_are_neither_trained_on_nor_tested_with():
    trial = start_trial(digits(), 0)
    seen: list[torch.Tensor] = []
    trial.model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    trial.evaluate()
    trial.validate()
    parts = [{image.numpy().tobytes() for image in part} for part in (trial.data[0], *seen)]
    assert [len(part) for part in (trial.data[0], *seen)] == [1437, 181, 179]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(parts, 2))


def test_indices_lie_between_0_and_1_for_every_class():
    kpis = start_trial(digits(), 0).kpis()
    assert set(kpis) == set(digits().losses)
    assert all(0 <= kpi <= 1 for kpi in kpis.values())


@pytest.mark.slow
def test_mtadam_comes_close_to_the_right_weights_and_far_above_the_wrong_ones():
    problem = digits()
    options = TrainingOptions(problem.epochs, problem.batch_size, problem.lr)

    def accuracy(name: str) -> float:
        runs = (
            train(problem, Method(name), options, seed, watch=lambda *_: None)
            for seed in (101, 102, 103)
        )
        return sum(run.metric for run in runs) / 3

    mtadam = accuracy("mtadam")
    assert mtadam > accuracy("right") - 0.02
    assert mtadam > accuracy("equal") + 0.20
