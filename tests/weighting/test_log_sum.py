from __future__ import annotations

import pytest
import torch

from equipoise.weighting.log_sum import LogSum
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize(
    ("name", "offset"),
    [(name, 0.0) for name in names("scale_invariant_nashmtl__*")]
    + [(name, 1.0) for name in names("log_transform_ludwig__*")],
)
def test_weights_follow_the_reference(name, offset):
    golden = load(name)
    factor = golden.hyperparameters["task_weights"]
    balancer = LogSum(len(factor), factor=factor, offset=offset)
    for index, step in enumerate(golden.steps):
        values = tensor(step["losses"])
        assert_matches(golden, balancer.weigh(values), step["weights"], f"step {index}")
        loss = tensor(factor) @ (values + offset).log()
        assert_matches(golden, loss, step["loss"], f"step {index} loss")


def test_scaling_a_loss_changes_no_gradient():
    parameter = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)

    def gradient(scale):
        losses = [scale * parameter.square().sum(), (parameter[0] - 3).square()]
        return torch.autograd.grad(LogSum(2)(losses), parameter)[0]

    torch.testing.assert_close(gradient(1e6), gradient(1.0))


def test_a_factor_counts_and_a_priority_cancels():
    values = [torch.tensor(4.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)]
    factored, prioritised = LogSum(2, factor=[3.0, 1.0]), LogSum(2, priorities=[3.0, 1.0])
    factored(values)
    prioritised(values)
    assert factored.weights == {"0": 0.75, "1": 2.0}
    assert prioritised.weights == {"0": 0.25, "1": 2.0}


def test_a_loss_of_exactly_zero_has_weight_zero():
    assert LogSum(2).weigh(torch.tensor([0.0, 4.0])).tolist() == [0.0, 0.25]


def test_a_negative_loss_leaves_the_last_weights():
    balancer = LogSum(2)
    balancer.weigh(torch.tensor([0.5, 4.0]))
    assert balancer.weigh(torch.tensor([-0.5, 4.0])).tolist() == [2.0, 0.25]


def test_a_negative_offset_is_refused():
    with pytest.raises(ValueError, match="`offset` is -1"):
        LogSum(2, offset=-1.0)
