"""The package itself needs a GPU tool chain; what is tested is the interface that it calls."""

from __future__ import annotations

import importlib.util

import pytest
import torch

import equipoise as eq
from equipoise.integrations.physicsnemo import BalancedAggregator, register_loss_config
from tests.integrations.loops import (
    ThreeLosses,
    balancer_of,
    batches,
    difference,
    plain_loop,
    sgd,
)
from tests.methods import OPTIONS, of_kind

# Those told something from outside (weights, scores, traces) need more than a name.
TOLD = ("fixed", "dynamictaskprioritization", "ntktrace")
METHODS = [name for name in eq.list_balancers() if name not in TOLD]


def aggregator_of(model, name, weights=None):
    torch.manual_seed(7)
    options = OPTIONS.get(name, {})
    return BalancedAggregator(model.parameters(), 3, weights, method=name, options=options)


@pytest.mark.parametrize("name", METHODS)
def test_called_as_physicsnemo_calls_its_own_every_method_trains_as_in_the_plain_loop(name) -> None:
    data, model = batches(3), ThreeLosses()
    aggregator, optimizer = aggregator_of(model, name), sgd(model)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for step, x in enumerate(data):
        model.zero_grad(set_to_none=True)
        loss = aggregator(model(x), step)
        assert loss.ndim == 0
        scaler.scale(loss).backward()
        optimizer.step()
    balancer = balancer_of(name)
    if getattr(balancer, "heads", "weighted") == "weighted":
        assert difference(plain_loop(balancer, data), model) < 1e-10


def test_fixed_weights_multiply_the_losses_before_they_are_balanced() -> None:
    model, (x,) = ThreeLosses(), batches(1)
    weighted = aggregator_of(model, "geometricmean", {"b": 5.0})
    losses = model(x)
    by_hand = eq.GeometricMean(3)([losses["a"], 5 * losses["b"], losses["c"]])
    torch.testing.assert_close(weighted(losses, 0), by_hand)


def test_several_calls_in_one_step_learn_once_and_give_one_function() -> None:
    model, data = ThreeLosses(), batches(3)
    aggregator = aggregator_of(model, "gradnorm")
    aggregator(model(data[0]), 0)
    weights = aggregator.balancer.weights
    value = aggregator(model(data[1]), 0)
    expected = sum(
        w * loss for w, loss in zip(weights.values(), model(data[1]).values(), strict=True)
    )
    torch.testing.assert_close(value, expected)
    aggregator(model(data[2]), 1)
    assert aggregator.balancer.weights != weights


def test_bfgs_finds_no_parameters_and_lowers_the_loss() -> None:
    model, (x,) = ThreeLosses(), batches(1)
    aggregator = aggregator_of(model, "relobralo")
    assert not list(aggregator.parameters())
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    before = aggregator(model(x), 0).item()

    def closure():
        optimizer.zero_grad()
        loss = aggregator(model(x), 0)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() < 0.1 * before


def test_the_order_of_the_losses_does_not_matter_and_survives_a_checkpoint() -> None:
    model, data = ThreeLosses(), batches(2)
    aggregator = aggregator_of(model, "gradnorm")
    aggregator(model(data[0]), 0)
    resumed = aggregator_of(model, "gradnorm")
    resumed.load_state_dict(aggregator.state_dict())
    losses = model(data[1])
    shuffled = {name: losses[name] for name in ("c", "a", "b")}
    torch.testing.assert_close(resumed(shuffled, 1), aggregator(losses, 1))


def test_other_losses_than_the_first_are_refused() -> None:
    model, (x,) = ThreeLosses(), batches(1)
    aggregator = aggregator_of(model, "mgda")
    losses = model(x)
    aggregator(losses, 0)
    del losses["b"]
    with pytest.raises(ValueError, match="in the first call they were"):
        aggregator(losses, 1)


@pytest.mark.parametrize("name", of_kind(weighting=False))
def test_a_method_without_a_loss_shows_the_plain_sum(name) -> None:
    model, (x,) = ThreeLosses(), batches(1)
    losses = model(x)
    torch.testing.assert_close(aggregator_of(model, name)(losses, 0), sum(losses.values()))


def test_losses_keep_their_names_so_that_options_can_name_the_residual() -> None:
    model, (x,) = ThreeLosses(), batches(1)
    options = {"reference": "b"}
    aggregator = BalancedAggregator([], 3, method="learningrateannealing", options=options)
    aggregator(model(x), 0)
    assert aggregator.balancer.names == ("a", "b", "c")
    assert aggregator.balancer.weights["b"] == 1
    assert aggregator.balancer.weights["a"] != 1


def test_the_step_may_be_one_tensor_that_is_counted_up_in_place() -> None:
    model, data, step = ThreeLosses(), batches(3), torch.tensor(0)
    aggregator = aggregator_of(model, "gradnorm")
    for x in data:
        aggregator(model(x), step)
        step += 1
    aggregator(model(data[0]), step - 1)
    assert int(aggregator.state_dict()["_balancer.calls"]) == 3


def test_before_the_first_call_there_is_no_balancer_yet() -> None:
    with pytest.raises(RuntimeError, match="built at the first call"):
        _ = aggregator_of(ThreeLosses(), "gradnorm").balancer


def test_a_method_that_is_unknown_is_refused_where_the_trainer_builds_the_aggregator() -> None:
    with pytest.raises(ValueError, match="Did you mean 'gradnorm'"):
        BalancedAggregator([], 3, method="grad_nrom")


def test_a_weight_for_no_loss_is_refused() -> None:
    model, (x,) = ThreeLosses(), batches(1)
    with pytest.raises(ValueError, match="`weights` has the unknown name 'd'"):
        aggregator_of(model, "mgda", {"d": 2.0})(model(x), 0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
def test_torchscript_is_refused_with_what_to_write() -> None:
    with pytest.raises(TypeError, match="jit: false"):
        torch.jit.script(aggregator_of(ThreeLosses(), "mgda"))


def test_without_the_trainer_the_configuration_says_what_is_missing() -> None:
    if importlib.util.find_spec("physicsnemo") is not None:
        pytest.skip("PhysicsNeMo is installed")
    with pytest.raises(ModuleNotFoundError, match="nvidia-physicsnemo-sym"):
        register_loss_config()
