from __future__ import annotations

import pytest
import torch

import equipoise as eq
from equipoise.weighting.dynamic_task_prioritization import SOON
from tests.golden import assert_matches, load, names, tensor


@pytest.mark.parametrize("name", names("dtp__*"))
def test_weights_follow_the_formula_s_trajectory(name) -> None:
    golden = load(name)
    hyper = golden.hyperparameters
    balancer = eq.DynamicTaskPrioritization(
        len(hyper["gamma"]), alpha=hyper["alpha"], gamma=hyper["gamma"]
    )
    balancer.follow(tensor([1.0]))
    for index, step in enumerate(golden.steps):
        balancer.observe({str(i): kpi for i, kpi in enumerate(step["kpi"])})
        weights = balancer.weigh(torch.ones(len(step["kpi"]), dtype=torch.float64))
        assert_matches(golden, weights, step["weights"], f"step {index}")
        assert_matches(golden, balancer.kpis, step["kpi_ema"], f"step {index} average")


def test_weights_are_one_until_every_index_is_known() -> None:
    balancer = eq.DynamicTaskPrioritization(["a", "b"])
    balancer.observe({"a": 0.5})
    assert balancer.weigh(tensor([1.0, 1.0])).tolist() == [1.0, 1.0]
    balancer.observe({"b": 0.5})
    assert balancer.weigh(tensor([1.0, 1.0]))[0] < 1


def test_an_index_of_zero_gives_a_finite_weight_and_one_of_one_gives_none() -> None:
    balancer = eq.DynamicTaskPrioritization(["a", "b"])
    balancer.observe({"a": 0.0, "b": 1.0})
    weights = balancer.weigh(tensor([1.0, 1.0]))
    assert weights.isfinite().all()
    assert weights[1] == 0


@pytest.mark.parametrize(
    ("kpis", "says"), [({"c": 0.5}, "unknown name 'c'"), ({"a": 1.5}, "index of 'a' is 1.5")]
)
def test_indices_that_cannot_be_are_refused(kpis, says) -> None:
    with pytest.raises(ValueError, match=says):
        eq.DynamicTaskPrioritization(["a", "b"]).observe(kpis)


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"floor": 1.0}, {"gamma": -1.0}])
def test_hyperparameters_out_of_range_are_refused(options) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        eq.DynamicTaskPrioritization(2, **options)


def test_a_training_without_indices_is_told_once_which_are_missing():
    balancer, weight = eq.DynamicTaskPrioritization(["a", "b"]), torch.ones(2, requires_grad=True)
    balancer.observe({"a": 0.5})
    losses = lambda: [weight.sum(), weight.square().sum()]  # noqa: E731
    for _ in range(SOON):
        balancer.backward(losses())
    with pytest.warns(
        UserWarning, match=r"no key performance index of 'b'.*observe\(\{'b': 0.8\}\)"
    ):
        balancer.backward(losses())
    balancer.backward(losses())
