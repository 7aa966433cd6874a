from __future__ import annotations

import pytest
import torch

from equipoise.gradients.apply import BackwardPass
from equipoise.losses import read_losses
from equipoise.parallel.averaging import GradientAverage
from equipoise.parallel.processes import Processes


def test_a_weighted_pass_reaches_only_the_named_inputs() -> None:
    one, other = torch.ones((), requires_grad=True), torch.ones((), requires_grad=True)
    terms = read_losses([one * other, one * 3], ("a", "b"))
    how = BackwardPass(GradientAverage(Processes(alone=True)))
    how.run([how.weighted(terms, torch.tensor([2.0, 5.0]), [one])], terms)
    assert one.grad == 17.0
    assert other.grad is None


def test_two_ways_of_scaling_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        BackwardPass(
            GradientAverage(Processes(alone=True)),
            scaler=torch.amp.GradScaler("cpu"),
            backward=torch.Tensor.backward,
        )
