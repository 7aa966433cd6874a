from __future__ import annotations

import pytest
import torch

from equipoise.weighting.chebyshev import Chebyshev
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("chebyshev_ludwig__*"))
def test_weights_follow_ludwigs_mixture(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = Chebyshev(
        len(options["preference"]),
        preference=options["preference"],
        tchebycheff_weight=options["tchebycheff_weight"],
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_weights_follow_the_code_of_lin_et_al():
    golden = load("chebyshev_stchrepo__default")
    reference = golden.hyperparameters["reference"]
    for index, step in enumerate(golden.steps):
        balancer = Chebyshev(len(reference), preference=step["preference"], reference=reference)
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_the_loss_that_is_farthest_from_its_ideal_leads():
    balancer = Chebyshev(2, reference=[5.0, 0.0])
    assert balancer.weigh(tensor([5.5, 1.0])).tolist() == [0.0, 0.5]


def test_of_equal_losses_exactly_one_leads():
    assert torch.count_nonzero(Chebyshev(3).weigh(tensor([1.0, 1.0, 1.0]))) == 1


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_of_its_range_is_refused(share):
    with pytest.raises(ValueError, match="`tchebycheff_weight`"):
        Chebyshev(2, tchebycheff_weight=share)
