from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.excessmtl import ExcessMTL
from tests.aggregation.following import follow_gradient, follow_live, follow_weights, independent
from tests.golden import load

OPTIONS = {
    "excessmtl_libmtl": {"eps_baseline": 0.0},
    "excessmtl_torchjd": {"robust_step_size": 1.0, "n_warmup_steps": 0, "reduction": "mean"},
    "excessmtl_torchjd_warmup5": {
        "robust_step_size": 0.3,
        "n_warmup_steps": 5,
        "reduction": "mean",
    },
}


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_weights_and_gradients_follow_the_references(name, options):
    golden = load(name)
    follow_weights(golden, ExcessMTL(3, **options))
    follow_gradient(golden, ExcessMTL(3, **options))
    follow_live(golden, ExcessMTL(3, **options))


def test_a_gradient_of_zero_in_the_first_step_does_no_lasting_harm():
    rows = independent(3, 4)
    first = rows.clone()
    first[1] = 0
    balancer = ExcessMTL(3, eps_baseline=0.0)
    for step in (first, rows, rows):
        weights = balancer.weigh(torch.ones(3).double(), Gradients(step))
    assert weights.isfinite().all()
    assert weights.sum().item() == pytest.approx(3)


def test_the_loss_that_does_not_get_better_gains():
    balancer = ExcessMTL(["falling", "stuck"], robust_step_size=0.1)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for step in range(10):
        scale = torch.tensor([[0.5**step], [1.0]])
        weights = balancer.weigh(torch.ones(2), Gradients(rows * scale))
    assert weights[1] > weights[0]


def test_losses_that_are_there_share_what_they_had_and_the_absent_one_rests():
    rows = independent(3, 4)
    balancer = ExcessMTL(3, robust_step_size=0.5)
    for _ in range(3):
        balancer.weigh(torch.ones(3).double(), Gradients(rows))
    before = balancer.log_weights.exp()
    with balancer.among((0, 2)):
        balancer.weigh(torch.ones(2).double(), Gradients(rows[[0, 2]]))
    after = balancer.log_weights.exp()
    assert after[1] == before[1]
    torch.testing.assert_close(after.sum(), before.sum())


@pytest.mark.parametrize(
    "options", [{"robust_step_size": 0.0}, {"n_warmup_steps": -1}, {"eps_h": 0.0}]
)
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        ExcessMTL(2, **options)
