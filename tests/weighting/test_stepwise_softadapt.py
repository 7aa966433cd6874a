from __future__ import annotations

import pytest
import torch

from equipoise.weighting.stepwise_softadapt import StepwiseSoftAdapt
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("softadapt_physicsnemo__*"))
def test_ratios_follow_physicsnemo(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = StepwiseSoftAdapt(options["T"], eps=options["eps"])
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


@pytest.mark.parametrize("name", names("softadapt_rbischof__*"))
def test_differences_follow_the_code_of_relobralos_authors(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = StepwiseSoftAdapt(
        options["T"],
        change="difference",
        beta=options["temperature"],
        start=options["init_l"],
        eps=0.0,
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_a_loss_without_a_last_value_has_weight_one_and_the_rest_sum_to_their_number():
    balancer = StepwiseSoftAdapt(["a", "b", "c"])
    live = {name: torch.tensor(2.0, requires_grad=True) for name in ("a", "b", "c")}
    balancer.backward({"a": live["a"], "b": live["b"]})
    weights = balancer.backward({**live, "a": live["a"] * 1.5}).weights
    assert weights[2] == 1
    assert weights[0] > weights[1]
    torch.testing.assert_close(weights.sum(), torch.tensor(3.0))


def test_a_loss_of_exactly_zero_leaves_finite_weights():
    balancer = StepwiseSoftAdapt(2)
    for values in ([1.0, 1.0], [0.0, 1.0], [1.0, 1.0]):
        weights = balancer.weigh(tensor(values))
        torch.testing.assert_close(weights.sum(), tensor(2.0))


def test_the_values_of_the_caller_are_not_held_on_to():
    values = tensor([1.0, 2.0])
    balancer = StepwiseSoftAdapt(2).double()
    balancer.weigh(values)
    values.mul_(100)
    torch.testing.assert_close(balancer.weigh(tensor([1.0, 2.0])), tensor([1.0, 1.0]))


@pytest.mark.parametrize(
    ("options", "message"), [({"change": "log"}, "'ratio'"), ({"eps": -1.0}, "`eps` is -1")]
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StepwiseSoftAdapt(2, **options)
