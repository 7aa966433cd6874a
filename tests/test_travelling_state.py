"""State that is saved, averaged, moved, loaded into other losses, or met under `no_grad`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import equipoise as eq
from tests.methods import LOSSES, NAMES, make, tensors_of
from tests.models import MultiHead, batch

SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
CASES: dict[str, Callable[[], eq.Balancer]] = {name: lambda name=name: make(name) for name in NAMES}
CASES |= {
    "primary, upgrad": lambda: eq.Primary(make("upgrad"), "b"),
    "shares, gradnorm": lambda: eq.Shares(make("gradnorm"), SHARES),
    "behind, cagrad": lambda: eq.Behind(make("cagrad")),
    "behind, pcgrad": lambda: eq.Behind(make("pcgrad")),
    "crmogm, behind, mgda": lambda: eq.CRMOGM(LOSSES, inner=lambda n: eq.Behind(eq.MGDA(n))),
}
every_case = pytest.mark.parametrize("case", CASES)
# What was the default there, where another one is now.
AS_IT_WAS: dict[str, Callable[[], eq.Balancer]] = {
    "learningrateannealing": lambda: make(
        "learningrateannealing", pooling="elements", denominator="plain"
    ),
    "gradnorm": lambda: make("gradnorm", floor=None),
    "shares, gradnorm": lambda: eq.Shares(make("gradnorm", floor=None), SHARES),
}
FIRST_VERSION = torch.load(
    Path(__file__).parent / "checkpoints" / "version_0_1.pt", weights_only=True
)


def named(model: MultiHead, x: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip("abcdefgh", model(x), strict=False))


def trained(balancer: eq.Balancer, steps: int = 3) -> eq.Balancer:
    model = MultiHead(len(balancer.names))
    for _ in range(steps):
        balancer.backward(dict(zip(balancer.names, model(batch()), strict=True)))
    return balancer


def assert_equal_states(one: eq.Balancer, other: dict[str, torch.Tensor]) -> None:
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor.nan_to_num(7e7), other[key].nan_to_num(7e7)), key


@every_case
def test_a_state_holds_tensors_only(case) -> None:
    state = trained(CASES[case]()).state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())


@pytest.mark.parametrize("case", FIRST_VERSION)
def test_a_checkpoint_of_the_first_version_goes_on_as_it_did_there(case) -> None:
    generator = torch.Generator().manual_seed(11)
    batches = [torch.randn(6, 4, dtype=torch.float64, generator=generator) for _ in range(5)]
    torch.manual_seed(0)
    model = MultiHead(3)
    balancer = AS_IT_WAS.get(case, CASES[case])()
    balancer.load_state_dict(FIRST_VERSION[case]["state"])
    for x, expected in zip(batches[3:], FIRST_VERSION[case]["weights"], strict=True):
        found = balancer.backward(named(model, x)).weights
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@every_case
def test_a_moving_average_of_a_model_takes_its_balancer_along(case) -> None:
    model = MultiHead(3)
    model.balancer = CASES[case]()
    average = copy.deepcopy(model)
    for _ in range(3):
        model.balancer.backward(named(model, batch()))
        current = model.state_dict()
        state = average.state_dict()
        for key, mean in state.items():  # the idiom of several training libraries
            if mean.shape == current[key].shape:
                mean.copy_(0.9 * mean + 0.1 * current[key])
    fresh = MultiHead(3)
    fresh.balancer = CASES[case]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh.load_state_dict(
            {k: v for k, v in average.state_dict().items() if "generator" not in k}
            | {k: v for k, v in model.state_dict().items() if "generator" in k}
        )
    assert fresh.balancer.names == tuple(LOSSES)


@every_case
def test_nothing_is_learned_and_nothing_counted_under_no_grad(case) -> None:
    model = MultiHead(3)
    balancer = trained(CASES[case]())
    before = copy.deepcopy(balancer.state_dict())
    with torch.no_grad():
        for _ in range(2):
            losses = named(model, batch())
            if balancer.weighting:
                assert not balancer(losses).requires_grad
    assert_equal_states(balancer, before)


@every_case
def test_a_validation_in_inference_mode_before_the_first_step_changes_nothing(case) -> None:
    torch.manual_seed(2)
    plain = CASES[case]()
    checked = copy.deepcopy(plain)
    model = MultiHead(3)
    if checked.weighting:
        with torch.inference_mode():
            checked(named(model, batch()))
    for _ in range(3):
        x = batch()
        expected = plain.backward(named(model, x)).weights
        assert torch.equal(checked.backward(named(model, x)).weights, expected)
    assert not any(buffer.is_inference() for buffer in checked.buffers())


@every_case
def test_made_on_the_meta_device_and_reset_it_is_a_fresh_one(case) -> None:
    with torch.device("meta"):
        model = MultiHead(3)
        model.balancer = CASES[case]()
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    fresh = CASES[case]()
    expected = {
        k: v for k, v in tensors_of(fresh).items() if "kernels" not in k and "kpis" not in k
    }
    for key, tensor in expected.items():
        found = tensors_of(model.balancer)[key]
        assert torch.equal(found.nan_to_num(7e7), tensor.nan_to_num(7e7)), key


@pytest.mark.filterwarnings("ignore:The checkpoint has other losses:UserWarning")
@every_case
@pytest.mark.parametrize("others", [["c", "a"], ["d", "c", "b", "a"], ["x", "y"]])
def test_a_state_loads_into_other_losses_and_trains_on(case, others) -> None:
    if not case.startswith(("primary", "shares", "crmogm,")):
        saved = trained(CASES[case]()).state_dict()
        fresh = remade(case, others)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`.*` was", category=UserWarning)
            fresh.load_state_dict(saved)
        record = trained(fresh, 2).last
        assert record is not None
        assert record.weights.isfinite().all()


def remade(case: str, names: list[str]) -> eq.Balancer:
    if case.startswith("behind, "):
        return eq.Behind(remade(case.removeprefix("behind, "), names))
    if case == "fixed":
        return eq.Fixed(names, [1.0] * len(names))
    return make_for(case, names)


def make_for(case: str, names: list[str]) -> eq.Balancer:
    options = {"dwa": {"window": 1}, "famo": {"after": "next_batch"}, "softadapt": {"order": 1}}
    return eq.create_balancer(case, names, **options.get(case, {}))


def test_what_is_kept_behind_follows_its_losses_into_another_order() -> None:
    model = MultiHead(3)
    straight = eq.Behind(eq.CAGrad(LOSSES))
    straight.backward(named(model, batch()))
    turned = eq.Behind(eq.CAGrad(["c", "b", "a"]))
    turned.load_state_dict(straight.state_dict())
    x = batch()
    expected = straight.backward(named(model, x)).weights
    torch.testing.assert_close(turned.backward(named(model, x)).weights.flip(0), expected)


def test_the_primary_loss_is_the_one_that_was_named_last_with_a_warning() -> None:
    saved = trained(eq.Primary(eq.Equal(LOSSES), "a")).state_dict()
    fresh = eq.Primary(eq.Equal(LOSSES), "b")
    with pytest.warns(UserWarning, match="`is_primary` was"):
        fresh.load_state_dict(saved)
    assert fresh.is_primary.tolist() == [False, True, False]


def test_priorities_given_now_count_with_a_warning() -> None:
    saved = trained(eq.GradNorm(LOSSES, priorities=[1.0, 2.0, 3.0])).state_dict()
    fresh = eq.GradNorm(LOSSES, priorities=[1.0, 5.0, 3.0])
    with pytest.warns(UserWarning, match=r"`priorities` was \[1.0, 2.0, 3.0\]"):
        fresh.load_state_dict(saved)
    assert fresh.priorities.tolist() == [1.0, 5.0, 3.0]


def test_scheduled_priorities_are_what_their_schedule_says_without_a_warning() -> None:
    ramp = {"b": eq.Ramp(0.1, 2.0, steps=5)}
    saved = trained(eq.GradNorm(LOSSES, priorities=ramp)).state_dict()
    fresh = eq.GradNorm(LOSSES, priorities=ramp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh.load_state_dict(saved)
