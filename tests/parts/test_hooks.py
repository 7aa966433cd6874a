from __future__ import annotations

import copy
import pickle

import pytest
import torch

import equipoise as eq
from tests.methods import NAMES, make
from tests.models import MultiHead, batch

WRAPPED = {
    "primary": lambda: eq.Primary(eq.UPGrad(3), "1"),
    "shares": lambda: eq.Shares(eq.GradNorm(3), [1.0, 2.0, 3.0]),
    "shares of a combined gradient": lambda: eq.Shares(eq.PCGrad(3), [1.0, 2.0, 3.0]),
    "behind": lambda: eq.Behind(eq.UPGrad(3)),
    "crmogm": lambda: eq.CRMOGM(3),
    "three deep": lambda: eq.Primary(eq.Shares(eq.Behind(eq.UPGrad(3)), [1.0, 1.0, 2.0]), "0"),
}


def heard(balancer) -> list:
    seen = []
    balancer.register_record_hook(lambda b, record, step: seen.append((b, record, step)))
    return seen


def test_a_hook_is_told_of_each_step_in_turn_until_it_is_removed() -> None:
    balancer, model, seen = eq.Equal(2), MultiHead(2), []
    handle = balancer.register_record_hook(lambda *told: seen.append(told))
    records = [balancer.backward(model(batch())) for _ in range(3)]
    handle.remove()
    balancer.backward(model(batch()))
    assert seen == [(balancer, record, step) for step, record in enumerate(records)]


def test_a_handle_is_a_context_manager_as_torch_has_it() -> None:
    balancer, seen = eq.Equal(2), []
    with balancer.register_record_hook(lambda *told: seen.append(told)) as handle:
        balancer.backward(MultiHead(2)(batch()))
    assert isinstance(handle, torch.utils.hooks.RemovableHandle)
    balancer.backward(MultiHead(2)(batch()))
    assert len(seen) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_method_tells_of_a_step_once_with_what_it_applied(name) -> None:
    balancer = make(name)
    seen = heard(balancer)
    for step in range(3):
        balancer.backward(dict(zip("abc", MultiHead(3)(batch()), strict=True)))
        assert [told[2] for told in seen] == list(range(step + 1))
        assert seen[-1][1] is balancer.last


@pytest.mark.parametrize("build", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_tell_once_with_what_was_applied(build) -> None:
    balancer, model = build(), MultiHead(3)
    seen = heard(balancer)
    for _ in range(3):
        balancer.backward(model(batch()))
    assert [step for _, _, step in seen] == [0, 1, 2]
    assert dict(zip("012", seen[-1][1].weights.tolist(), strict=True)) == balancer.weights


def test_the_balanced_loss_is_a_step_too() -> None:
    balancer = eq.Uncertainty(2)
    seen = heard(balancer)
    balancer(MultiHead(2)(batch())).backward()
    assert [step for _, _, step in seen] == [0]


def test_what_trains_nothing_is_no_step() -> None:
    balancer, model = eq.GradNorm(2), MultiHead(2)
    seen = heard(balancer)
    with balancer.frozen():
        balancer.backward(model(batch()))
    with torch.no_grad():
        balancer(model(batch()))
    balancer.eval()
    balancer.backward(model(batch()))
    assert not seen
    balancer.train()
    balancer.backward(model(batch()))
    assert seen[0][2] == 0


def test_a_step_that_a_loss_spoils_has_a_number_of_its_own() -> None:
    balancer, model = eq.GradNorm(2), MultiHead(2)
    seen = heard(balancer)
    for factor in (1.0, float("nan"), 1.0):
        first, second = model(batch())
        balancer.backward([first * factor, second])
    assert [step for _, _, step in seen] == [0, 1, 2]
    assert seen[1][1].losses.isnan().tolist() == [True, False]


def test_every_kth_step_is_told_alone() -> None:
    balancer, model, seen = eq.Equal(2), MultiHead(2), []
    balancer.register_record_hook(lambda *told: seen.append(told[2]), every=3)
    for _ in range(7):
        balancer.backward(model(batch()))
    assert seen == [0, 3, 6]


def test_the_number_of_steps_is_saved_with_the_balancer() -> None:
    balancer, model = eq.GradNorm(2), MultiHead(2)
    for factor in (1.0, float("inf"), 1.0):
        balancer.backward([loss * factor for loss in model(batch())])
    other = eq.GradNorm(2)
    seen = heard(other)
    other.load_state_dict(balancer.state_dict())
    other.backward(model(batch()))
    assert seen[0][2] == 3


def test_a_checkpoint_without_that_number_goes_on_from_the_steps_learned() -> None:
    balancer = eq.GradNorm(2)
    for _ in range(4):
        balancer.backward(MultiHead(2)(batch()))
    saved = {k: v for k, v in balancer.state_dict().items() if k != "missed_calls"}
    other = eq.GradNorm(2)
    seen = heard(other)
    other.load_state_dict(saved)
    other.backward(MultiHead(2)(batch()))
    assert seen[0][2] == 4


def test_a_pre_hook_sees_the_live_losses_before_anything_is_written() -> None:
    balancer, model, seen = eq.Equal(["a", "b", "c"]), MultiHead(3), []

    def look(b, losses, step):
        assert all(p.grad is None for p in model.parameters())
        first = next(model.parameters())
        (gradient,) = torch.autograd.grad(losses["a"], first, retain_graph=True)
        seen.append((b, tuple(losses), step, bool(gradient.any())))

    balancer.register_record_pre_hook(look)
    losses = model(batch())
    balancer.backward({"a": losses[0], "c": losses[2]})
    assert seen == [(balancer, ("a", "c"), 0, True)]


def test_hooks_leave_the_state_dictionary_alone() -> None:
    plain, heard_of = eq.GradNorm(2), eq.GradNorm(2)
    heard(heard_of)
    assert plain.state_dict().keys() == heard_of.state_dict().keys()


def module_level(*told) -> None:
    COUNTED.append(told[2])


COUNTED: list[int] = []


def test_copies_keep_their_hooks_as_copies_of_a_module_do() -> None:
    balancer = eq.Equal(2)
    handle = balancer.register_record_hook(module_level)
    twins = [copy.deepcopy(balancer), pickle.loads(pickle.dumps(balancer))]  # noqa: S301
    handle.remove()
    COUNTED.clear()
    for twin in (balancer, *twins):
        twin.backward(MultiHead(2)(batch()))
    assert COUNTED == [0, 0]


@pytest.mark.parametrize(("hook", "every", "said"), [(3, 1, "`fn`"), (print, 0, "`every`")])
def test_what_is_no_hook_is_refused(hook, every, said) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        eq.Equal(2).register_record_hook(hook, every=every)
