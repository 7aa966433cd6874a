from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from equipoise.parts.notices import IDLE_STEPS
from equipoise.weighting.famo import FAMO
from tests.golden import assert_matches, load, names, tensor

OURS = [name for name in names("famo_*") if not name.startswith("famo_ludwig")]


def build(golden, **options):
    given = golden.hyperparameters
    return FAMO(
        len(given["min_losses"]),
        lr=given["w_lr"],
        gamma=given["gamma"],
        min_losses=given["min_losses"],
        **options,
    )


@pytest.mark.parametrize("name", OURS)
def test_trajectories_follow_the_reference(name):
    golden = load(name)
    balancer = build(golden)
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]))
        assert_matches(golden, weights, step["weights"], f"step {index}")
        balancer.observe(tensor(step["losses_after"]))
        assert_matches(golden, balancer.logits, step["logits"], f"step {index} logits")


@pytest.mark.parametrize("name", OURS[:1])
def test_a_live_graph_gets_the_references_gradient(name):
    golden = load(name)
    balancer = build(golden)
    for index, step in enumerate(golden.steps):
        losses = tensor(step["losses"]).requires_grad_()
        balancer.backward(list(losses))
        assert_matches(golden, losses.grad, step["weights"], f"step {index}")
        with torch.no_grad():
            balancer.observe(tensor(step["losses_after"]))


def test_logits_descend_along_the_derivative_of_the_papers_objective():
    before, after = torch.rand(2, 3, dtype=torch.float64) + 0.1
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    fall = (before.log() - after.log()).detach()
    (gradient,) = torch.autograd.grad(torch.softmax(logits, dim=0) @ fall, logits)
    balancer = FAMO(3, gamma=0.0)
    balancer.weigh(before)
    balancer.observe(after)
    torch.testing.assert_close(balancer.logits, -0.025 * gradient.sign(), rtol=1e-4, atol=0)


def test_a_step_that_was_not_observed_teaches_nothing():
    balancer = FAMO(2)
    for _ in range(3):
        balancer.weigh(torch.rand(2) + 0.1)
    assert balancer.logits.tolist() == [0.0, 0.0]


def test_the_next_batch_stands_in_for_what_is_not_observed():
    observed, unobserved = FAMO(2), FAMO(2, after="next_batch")
    for values in torch.rand(5, 2) + 0.1:
        observed.observe(values)
        torch.testing.assert_close(unobserved.weigh(values), observed.weigh(values))
    assert unobserved.logits.abs().min() > 0


def steps(balancer, count, *, observed=False):
    weight = torch.ones(2, requires_grad=True)
    for _ in range(count):
        balancer.backward([weight.sum(), weight.square().sum()])
        if observed:
            balancer.observe([torch.tensor(1.9), torch.tensor(1.0)])


def test_many_steps_without_being_observed_are_told_once():
    balancer = FAMO(2)
    steps(balancer, IDLE_STEPS)
    with pytest.warns(UserWarning, match=r"Call `balancer.observe\(losses\)` after `optimizer"):
        steps(balancer, 1)
    steps(balancer, 2)


@pytest.mark.parametrize("observed", [True, False])
def test_who_observes_or_takes_the_next_batch_is_told_nothing(observed):
    balancer = FAMO(2, after="observed" if observed else "next_batch")
    weight = torch.ones(2, requires_grad=True)
    balancer.backward([weight.sum(), 2 * weight.square().sum()])
    balancer.observe([torch.tensor(1.9), torch.tensor(1.0)])
    steps(balancer, IDLE_STEPS + 2, observed=observed)


def test_observing_without_a_step_changes_nothing():
    balancer = FAMO(2)
    balancer.observe(torch.tensor([1.0, 2.0]))
    balancer.weigh(torch.tensor([2.0, 2.0]))
    balancer.observe(torch.tensor([1.0, 2.0]))
    before = deepcopy(balancer.state_dict())
    balancer.observe(torch.tensor([0.5, 2.0]))
    for name, state in balancer.state_dict().items():
        if isinstance(state, torch.Tensor):
            torch.testing.assert_close(state, before[name], equal_nan=True)


def test_observing_while_frozen_changes_nothing():
    balancer = FAMO(2)
    balancer.weigh(torch.tensor([2.0, 2.0]))
    with balancer.frozen():
        balancer.observe(torch.tensor([1.0, 2.0]))
    assert balancer.logits.tolist() == [0.0, 0.0]


def test_priorities_and_absent_losses_are_those_of_the_step():
    prioritised, plain = FAMO(["a", "b", "c"], priorities={"b": 10.0}), FAMO(["a", "b"])
    before = {"a": torch.tensor(2.0, requires_grad=True), "b": torch.ones((), requires_grad=True)}
    after = {"a": torch.tensor(1.5), "b": torch.tensor(0.9)}
    prioritised.backward(before)
    prioritised.observe(after)
    plain.backward({"a": before["a"], "b": 10 * before["b"]})
    plain.observe({"a": after["a"], "b": 10 * after["b"]})
    torch.testing.assert_close(prioritised.logits[:2], plain.logits)
    assert prioritised.logits[2] == 0


def test_a_step_saved_before_it_was_observed_is_observed_after_loading():
    balancer = FAMO(2)
    balancer.weigh(torch.tensor([2.0, 2.0]))
    resumed = FAMO(2)
    resumed.load_state_dict(balancer.state_dict())
    for one in (balancer, resumed):
        one.observe(torch.tensor([1.0, 2.0]))
    assert torch.equal(resumed.logits, balancer.logits)
    assert resumed.logits[0] < 0


def test_what_is_not_finite_after_the_step_leaves_no_trace():
    balancer = FAMO(2)
    balancer.weigh(torch.tensor([2.0, 2.0]))
    balancer.observe(torch.tensor([torch.nan, 2.0]))
    assert balancer.logits.tolist() == [0.0, 0.0]
    assert balancer.get_buffer("optimizer_steps").tolist() == [0.0, 0.0]


def test_a_loss_below_its_minimum_counts_as_at_it():
    below, at = (FAMO(2, min_losses=[1.0, 0.0]) for _ in range(2))
    expected = at.weigh(torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(below.weigh(torch.tensor([0.5, 1.0])), expected)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gamma": -1.0}, "`gamma` is -1.0"),
        ({"lr": 0.0}, "`lr` is 0.0"),
        ({"after": "never"}, "'observed' or 'next_batch'"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        FAMO(2, **options)
