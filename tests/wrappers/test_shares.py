from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import equipoise as eq
from equipoise.wrappers import Shares
from tests import methods
from tests.models import MultiHead, batch, flat_grad, jacobian

LOSSES = methods.LOSSES
STATED = {"a": 0.7, "b": 0.2, "c": 0.1}
PARTS = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)


def scaled(model: MultiHead, x: torch.Tensor, scales: tuple[float, ...] = (1, 1, 1)):
    return {n: s * loss for n, s, loss in zip(LOSSES, scales, model(x), strict=True)}


@pytest.mark.parametrize("scales", [(1, 1, 1), (1e-6, 1, 1e6), (1e6, 1e-6, 1)])
@pytest.mark.parametrize("name", methods.of_kind(weighting=True))
def test_the_weighted_gradients_have_the_stated_shares_whatever_the_scales(name, scales) -> None:
    model = MultiHead(3)
    trunk = list(model.trunk.parameters())
    balancer = Shares(methods.make(name), STATED)
    for _ in range(3):
        x = batch()
        record = balancer.backward(scaled(model, x, scales))
        norms = jacobian(list(scaled(model, x, scales).values()), trunk).norm(dim=1)
        lengths = record.weights.double() * norms
        if lengths.sum() > 0:  # a method may weigh everything with zero
            torch.testing.assert_close(lengths / lengths.sum(), PARTS)
        torch.testing.assert_close(record.norms.double(), norms)
        rows = jacobian(list(scaled(model, x, scales).values()), list(model.parameters()))
        torch.testing.assert_close(
            flat_grad(list(model.parameters())), record.weights.double() @ rows
        )
        model.zero_grad()


@pytest.mark.parametrize("name", methods.of_kind(weighting=True))
def test_the_sum_of_the_weighted_norms_is_that_of_the_method_alone(name) -> None:
    alone = methods.make(name)
    balancer = Shares(copy.deepcopy(alone), STATED)
    for values, rows in methods.steps(3):
        gradients = eq.Gradients(rows)
        given_by_method = alone.weigh(values, gradients)
        expected = (given_by_method.abs() * rows.norm(dim=1)).sum() * PARTS
        found = balancer.weigh(values, gradients) * rows.norm(dim=1)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", methods.of_kind(weighting=False))
def test_a_method_without_weights_combines_gradients_of_the_stated_shares(name) -> None:
    alone = methods.make(name)
    balancer = Shares(copy.deepcopy(alone), STATED)
    for values, rows in methods.steps(3):
        norms = rows.norm(dim=1)
        weights = PARTS * norms.sum() / norms
        expected = alone.combine(values * weights, eq.Gradients(rows * weights[:, None]))
        torch.testing.assert_close(balancer.combine(values, eq.Gradients(rows)), expected)


@pytest.mark.parametrize("name", methods.of_kind(weighting=False))
def test_a_method_without_weights_goes_backward_from_losses_brought_to_the_shares(name) -> None:
    model, x = MultiHead(3), batch()
    alone = methods.make(name)
    balancer = Shares(copy.deepcopy(alone), STATED)
    norms = jacobian(model(x), list(model.trunk.parameters())).norm(dim=1)
    weights = PARTS * norms.sum() / norms
    alone.backward(scaled(model, x, tuple(weights.tolist())))
    expected = flat_grad(list(model.parameters()))
    model.zero_grad()
    record = balancer.backward(scaled(model, x))
    torch.testing.assert_close(flat_grad(list(model.parameters())), expected)
    torch.testing.assert_close(record.weights.double(), weights)
    torch.testing.assert_close(record.losses, torch.stack(model(x)).detach())


NUMBERS = st.floats(-1, 1).filter(lambda number: number == 0 or abs(number) > 1e-3)


@given(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, st.floats(-15, 15)), min_size=3, max_size=3),
)
def test_shares_hold_for_any_gradients_and_zero_ones_keep_their_weight(rows) -> None:
    matrix = torch.tensor([[x * 10**e, y * 10**e] for x, y, e in rows], dtype=torch.float64)
    norms = matrix.norm(dim=1)
    ones = torch.ones(3, dtype=torch.float64)
    weights = Shares(eq.Equal(3), [2, 1, 1]).weigh(ones, eq.Gradients(matrix))
    parts = torch.tensor([2.0, 1.0, 1.0]).double() * (norms > 0)
    expected = parts / parts.sum().clamp(min=1) * norms.sum()
    torch.testing.assert_close(weights * norms, expected)
    assert torch.equal(weights[norms == 0], ones[norms == 0])


@pytest.mark.parametrize("make", [eq.Equal, eq.GradNorm, eq.GradDrop])
def test_the_others_divide_the_share_of_an_absent_loss(make) -> None:
    model = MultiHead(3)
    trunk = list(model.trunk.parameters())
    balancer = Shares(make(LOSSES), STATED)
    balancer.backward(scaled(model, batch()))
    x = batch()
    record = balancer.backward({**scaled(model, x), "b": None})
    norms = jacobian(model(x), trunk).norm(dim=1)
    lengths = record.weights.double() * norms
    expected = torch.tensor([7 / 8, 0.0, 1 / 8], dtype=torch.float64)
    torch.testing.assert_close(lengths / lengths.sum(), expected)


@pytest.mark.parametrize("make", [eq.Equal, eq.UPGrad])
@pytest.mark.parametrize("through", ["callable", "scaler"])
def test_scaled_passes_give_the_same_weights_and_scaled_gradients(make, through) -> None:
    model, x = MultiHead(3, dtype=torch.float32), batch(dtype=torch.float32)
    parameters = list(model.parameters())
    plain = Shares(make(LOSSES), STATED).backward(scaled(model, x))
    gradient = flat_grad(parameters)
    model.zero_grad()
    options = {
        "callable": {"backward": lambda loss: (loss * 8).backward()},
        "scaler": {"scaler": torch.amp.GradScaler("cpu", init_scale=8.0)},
    }[through]
    record = Shares(make(LOSSES), STATED).backward(scaled(model, x), **options)
    torch.testing.assert_close(record.weights, plain.weights)
    torch.testing.assert_close(flat_grad(parameters), 8 * gradient)


@pytest.mark.parametrize(("make", "passes"), [(eq.Equal, 1), (eq.UPGrad, 4)])
def test_a_step_costs_one_backward_pass_a_loss_more_than_the_method_s_weights(make, passes) -> None:
    model = MultiHead(3)
    hidden = model.trunk(batch())
    losses = dict(zip(LOSSES, (head(hidden).square().mean() for head in model.heads), strict=True))
    counted = []
    hidden.register_hook(lambda _: counted.append(1))
    Shares(make(LOSSES), STATED).backward(losses)
    assert len(counted) == passes + 3


def test_the_balanced_loss_has_the_gradient_that_backward_gives() -> None:
    model, x = MultiHead(3), batch()
    one, other = (Shares(eq.UPGrad(LOSSES), STATED) for _ in range(2))
    one.backward(scaled(model, x))
    expected = flat_grad(list(model.parameters()))
    model.zero_grad()
    other(scaled(model, x)).backward()
    torch.testing.assert_close(flat_grad(list(model.parameters())), expected)
    assert one.weights == other.weights


@pytest.mark.parametrize("name", methods.NAMES)
def test_saved_and_resumed_it_goes_on_bit_for_bit(name) -> None:
    model = MultiHead(3)
    batches = [batch() for _ in range(6)]
    straight = Shares(methods.make(name), STATED)
    first = copy.deepcopy(straight)
    expected = [straight.backward(scaled(model, x)).weights for x in batches]
    for x in batches[:3]:
        first.backward(scaled(model, x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Shares(methods.make(name), STATED)
    second.load_state_dict(torch.load(file, weights_only=True))
    for x, weights in zip(batches[3:], expected[3:], strict=True):
        assert torch.equal(second.backward(scaled(model, x)).weights, weights)


def test_frozen_it_uses_the_weights_as_they_are_and_learns_nothing() -> None:
    model = MultiHead(3)
    balancer = Shares(eq.GradNorm(LOSSES), STATED)
    balancer.backward(scaled(model, batch()))
    before, weights = copy.deepcopy(balancer.state_dict()), balancer.weights
    for context in (balancer.frozen(), balancer.eval().frozen()):
        with context:
            balancer.backward(scaled(model, batch()))
            assert balancer.weights == weights
    after = balancer.state_dict()
    kept = [k for k, v in before.items() if isinstance(v, torch.Tensor)]
    assert all(torch.equal(after[k], before[k]) for k in kept)


def test_a_loss_whose_schedule_is_zero_has_no_share() -> None:
    model = MultiHead(3)
    late = {"c": lambda step: float(step >= 2)}
    balancer = Shares(eq.Equal(LOSSES, priorities=late), STATED)
    weights = [balancer.backward(scaled(model, batch())).weights for _ in range(4)]
    assert [float(w[2]) > 0 for w in weights] == [False, False, True, True]


def test_the_mean_of_the_weights_is_that_of_those_applied() -> None:
    model = MultiHead(3)
    balancer = Shares(eq.Equal(LOSSES), STATED)
    seen = torch.stack([balancer.backward(scaled(model, batch())).weights for _ in range(3)])
    assert list(balancer.mean_weights.values()) == pytest.approx(seen.mean(dim=0).tolist())
    assert balancer.report()["weight/a"] == pytest.approx(float(seen[-1, 0]))


@pytest.mark.parametrize("shares", [{"a": 1.0, "b": -1.0}, {"a": 1.0}, [0.0, 0.0], [1.0]])
def test_shares_that_cannot_be_are_refused(shares) -> None:
    with pytest.raises(ValueError, match="shares"):
        Shares(eq.Equal(["a", "b"]), shares)


@pytest.mark.parametrize("method", [eq.Equal, eq.GradNorm, eq.MGDA, eq.SDMGrad])
def test_shares_declare_that_norms_are_looked_at(method) -> None:
    below = method(2)
    expected = "norms" if below.looks_at == "losses" else below.looks_at
    assert eq.Shares(below, [1.0, 1.0]).looks_at == expected
