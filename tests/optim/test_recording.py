from __future__ import annotations

import copy
import pickle

import pytest
import torch

import equipoise as eq
from tests.optim.training import TwoHeads

KINDS = [eq.MTAdam, eq.AutoBalance, eq.MultiAdam]


def build(kind, **options):
    torch.manual_seed(0)
    model = TwoHeads()
    return model, kind(model.parameters(), lr=0.01, losses=["left", "right"], **options)


def data() -> torch.Tensor:
    return torch.randn(5, 4, dtype=torch.float64)


def by_hand(model, x) -> torch.Tensor:
    """The norms of the losses' gradients, over all parameters."""
    rows = []
    for loss in model(x).values():
        found = torch.autograd.grad(
            loss, list(model.parameters()), allow_unused=True, retain_graph=True
        )
        rows.append(torch.cat([g.flatten() for g in found if g is not None]).norm())
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_holds_losses_norms_and_the_total(kind) -> None:
    model, optimizer = build(kind)
    x = data()
    norms, losses = by_hand(model, x), model(x)
    assert optimizer.last is None
    optimizer.backward(losses)
    values = torch.stack([loss.detach() for loss in losses.values()])
    torch.testing.assert_close(optimizer.last.losses, values)
    torch.testing.assert_close(optimizer.last.norms, norms)
    torch.testing.assert_close(optimizer.last.total, values.sum())
    assert set(optimizer.report()) == {
        *("loss/left", "loss/right", "weight/left", "weight/right"),
        *("grad_norm/left", "grad_norm/right", "total"),
    }


def test_a_weight_of_mtadam_is_what_its_gradient_became_longer_by() -> None:
    model, optimizer = build(eq.MTAdam, granularity="all")
    for _ in range(3):
        optimizer.zero_grad()
        losses = model(data())
        losses["right"] = losses["right"] * 50
        optimizer.backward(losses)
        optimizer.step()
    norms = next(iter(optimizer.state.values()))["norms"]
    expected = {"left": 1.0, "right": float(norms[0] / norms[1])}
    assert optimizer.weights == pytest.approx(expected)


def test_autobalance_multiplies_no_gradient() -> None:
    model, optimizer = build(eq.AutoBalance)
    optimizer.backward(model(data()))
    assert optimizer.weights == {"left": 1.0, "right": 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_step_there_is_nothing_to_report(kind) -> None:
    _, optimizer = build(kind)
    assert optimizer.weights == {"left": 1.0, "right": 1.0}
    with pytest.raises(RuntimeError, match="no step yet"):
        optimizer.report()


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_loss_and_a_skipped_step_are_on_record(kind) -> None:
    model, optimizer = build(kind)
    optimizer.backward({"left": model(data())["left"]})
    assert optimizer.last.present == (0,)
    assert optimizer.weights["right"] == 0.0
    optimizer.step()
    losses = model(data())
    optimizer.backward({"left": losses["left"] * torch.nan, "right": losses["right"]})
    assert optimizer.last.losses.isnan().tolist() == [True, False]
    assert optimizer.weights == {"left": 0.0, "right": 0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_decides_the_same_record(kind) -> None:
    records = []
    for on_device in (False, True):
        model, optimizer = build(kind, on_device=on_device)
        losses = model(data().fill_(0.5))
        optimizer.backward(losses)
        records.append(optimizer.last)
    torch.testing.assert_close(records[0].weights, records[1].weights)
    torch.testing.assert_close(records[0].norms, records[1].norms)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_scale_is_not_on_record(kind) -> None:
    records = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=256.0)):
        model, optimizer = build(kind)
        optimizer.backward(model(data().fill_(0.5)), scaler=scaler)
        records.append(optimizer.last)
    for name in ("losses", "weights", "norms"):
        torch.testing.assert_close(getattr(records[0], name), getattr(records[1], name))


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_are_one_step_with_their_losses_added(kind) -> None:
    model, optimizer = build(kind)
    seen = []
    optimizer.register_record_hook(lambda o, record, step: seen.append((o, record, step)))
    first, second = model(data()), model(data())
    with optimizer.accumulate():
        optimizer.backward(first)
    optimizer.backward(second)
    ((told, record, step),) = seen
    assert told is optimizer
    assert step == 0
    torch.testing.assert_close(record.losses[1], (first["right"] + second["right"]).detach())


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_counted_skipped_ones_too_and_saved(kind) -> None:
    model, optimizer = build(kind)
    seen = []
    handle = optimizer.register_record_hook(lambda *told: seen.append(told[2]), every=2)
    for factor in (1.0, torch.nan, 1.0):
        optimizer.zero_grad()
        optimizer.backward({name: loss * factor for name, loss in model(data()).items()})
        optimizer.step()
    handle.remove()
    other_model, other = build(kind)
    other.register_record_hook(lambda *told: seen.append(told[2]))
    other.load_state_dict(optimizer.state_dict())
    other.backward(other_model(data()))
    assert seen == [0, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_copies_have_no_hooks_as_those_of_torch_have_none(kind) -> None:
    model, optimizer = build(kind)
    seen = []
    optimizer.register_record_hook(lambda *told: seen.append(told))
    plain = torch.optim.Adam(TwoHeads().parameters())
    plain.register_step_post_hook(lambda *told: seen.append(told))
    assert not copy.deepcopy(plain)._optimizer_step_post_hooks
    both = copy.deepcopy((model, optimizer))
    for twin_model, twin in (both, pickle.loads(pickle.dumps(both))):  # noqa: S301
        twin.backward(twin_model(data()))
    assert not seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_pre_hook_sees_the_live_losses(kind) -> None:
    model, optimizer = build(kind)
    seen = []
    optimizer.register_record_pre_hook(
        lambda _, losses, step: seen.append((tuple(losses), losses["left"].requires_grad, step))
    )
    optimizer.backward(model(data()))
    assert seen == [(("left", "right"), True, 0)]
