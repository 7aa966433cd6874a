from __future__ import annotations

import torch

from equipoise.parts.rates import training_rates
from tests.golden import tensor


def test_rates_are_the_ratios_to_the_first_losses_over_their_mean():
    rates = training_rates(tensor([1.0, 9.0]), tensor([2.0, 6.0]))
    torch.testing.assert_close(rates, tensor([0.5, 1.5]))


def test_a_loss_that_began_at_zero_has_ratio_one():
    rates = training_rates(tensor([5.0, 3.0]), tensor([0.0, 1.0]))
    torch.testing.assert_close(rates, tensor([0.5, 1.5]))


def test_a_loss_whose_sign_has_changed_counts_as_zero():
    rates = training_rates(tensor([-4.0, 3.0]), tensor([2.0, 1.0]))
    torch.testing.assert_close(rates, tensor([0.0, 2.0]))


def test_all_rates_are_one_where_every_ratio_is_zero():
    rates = training_rates(tensor([0.0, 0.0]), tensor([2.0, 1.0]))
    torch.testing.assert_close(rates, tensor([1.0, 1.0]))
