from __future__ import annotations

import math

import pytest
import torch

from equipoise.weighting.soft_uncertainty import SoftUncertainty
from equipoise.weighting.uncertainty import Uncertainty
from tests.golden import tensor


def test_weights_are_a_softmax_of_tempered_inverse_losses():
    scores = [math.exp(1 / (3 * value)) for value in (0.5, 2.0, 7.0)]
    expected = tensor([score / sum(scores) for score in scores])
    weights = SoftUncertainty(3, temperature=3.0).weigh(tensor([0.5, 2.0, 7.0]))
    torch.testing.assert_close(weights, expected)


def test_the_inverse_losses_are_where_uncertainty_weighting_ends():
    values = tensor([0.5, 2.0])
    learned = Uncertainty(2, factor=1.0, regulariser=1.0, lr=0.3, optimizer="sgd")
    for _ in range(500):
        weights = learned.weigh(values)
    analytic = SoftUncertainty(2, temperature=2.0).weigh(values)
    torch.testing.assert_close(analytic, (weights / 2.0).softmax(0))


def test_a_loss_of_exactly_zero_takes_all_the_weight():
    torch.testing.assert_close(SoftUncertainty(2).weigh(tensor([0.0, 1.0])), tensor([1.0, 0.0]))


@pytest.mark.parametrize("option", ["temperature", "eps"])
def test_numbers_that_are_not_positive_are_refused(option):
    with pytest.raises(ValueError, match=f"`{option}` is 0"):
        SoftUncertainty(2, **{option: 0.0})
