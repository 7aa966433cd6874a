from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.moco import MoCo
from tests.aggregation.following import follow_live, independent, seen
from tests.golden import assert_matches, load

OPTIONS = {
    "moco_official": {},
    "moco_libmtl": {
        "beta": 0.5,
        "rho": 0.0,
        "beta_sigma": 0.5,
        "gamma_sigma": 0.5,
        "tracks": "loss_length",
        "simplex": "softmax",
    },
}


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_gradients_and_state_follow_the_references(name, options):
    golden = load(name)
    balancer = MoCo(3, **options)
    for i, step in enumerate(golden.steps):
        assert_matches(golden, balancer.combine(*seen(step)), step["gradient"], f"step {i}")
        assert_matches(golden, balancer.loss_weights, step["weights"], f"step {i} weights")
        norms = balancer.tracked.norm(dim=1)
        assert_matches(golden, norms, step["state"]["y_norms"], f"step {i} norms")
    follow_live(golden, MoCo(3, **options))


@pytest.mark.parametrize("normalization", ["l2", "loss", "loss+"])
def test_normalised_gradients_equal_those_of_losses_scaled_by_hand(normalization):
    rows, values = independent(3, 4), torch.tensor([2.0, 0.5, 1.0]).double()
    scales = torch.ones(3).double()
    if normalization != "l2":
        scales = scales * values
    if normalization != "loss":
        scales = scales * rows.norm(dim=1)
    by_hand, balancer = MoCo(3, beta=1.0), MoCo(3, beta=1.0, normalization=normalization)
    for _ in range(3):
        expected = by_hand.combine(values, Gradients(rows / scales[:, None]))
        found = balancer.combine(values, Gradients(rows))
    torch.testing.assert_close(found, expected)


def test_with_full_gradients_it_converges_to_the_minimum_norm_weights():
    gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64))
    balancer = MoCo(2, rho=0.0)
    for _ in range(300):
        balancer.combine(torch.ones(2).double(), gradients)
    torch.testing.assert_close(balancer.loss_weights, torch.tensor([0.8, 0.2]).double())


@pytest.mark.parametrize(
    "options",
    [{"beta": 0.0}, {"gamma": -1.0}, {"tracks": "x"}, {"simplex": "x"}, {"normalization": "x"}],
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        MoCo(2, **options)
