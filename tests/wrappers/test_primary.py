from __future__ import annotations

import copy
import io

import pytest
import torch

import equipoise as eq
from equipoise.wrappers import Primary, Shares
from tests import methods
from tests.models import MultiHead, batch, flat_grad, jacobian

LOSSES = methods.LOSSES


def opposed(model: MultiHead, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Losses of which the second, of unchanged value, pulls hard against the first."""
    first, second, third = model(x)
    return {"a": first, "b": second - 30 * (first - first.detach()), "c": third}


@pytest.mark.parametrize("name", methods.NAMES)
def test_no_update_of_any_method_opposes_the_primary_loss_over_all_parameters(name) -> None:
    model = MultiHead(3)
    parameters = list(model.parameters())
    alone = methods.make(name)
    balancer = Primary(copy.deepcopy(alone), "a")
    for _ in range(3):
        x = batch()
        losses = opposed(model, x)
        primary = jacobian([losses["a"]], parameters)[0]
        alone.backward(losses, retain_graph=True)
        update = flat_grad(parameters)
        model.zero_grad()
        balancer.backward(losses)
        found = flat_grad(parameters)
        model.zero_grad()
        weight = (-(update @ primary) / (primary @ primary)).clamp(min=0)
        torch.testing.assert_close(found, update + weight * primary)
        assert found @ primary >= -1e-10 * found.norm() * primary.norm()
        expected = alone.last.weights + weight * torch.tensor([1.0, 0.0, 0.0])
        torch.testing.assert_close(balancer.last.weights, expected, check_dtype=False)


def test_an_update_that_does_not_oppose_it_stays_as_it_is_bit_for_bit() -> None:
    model = MultiHead(3, dtype=torch.float32)
    x = batch(dtype=torch.float32)
    losses = model(x)
    losses = [losses[0], losses[0] * 2 + losses[1] * 0.01, losses[0] * 3]
    plain = eq.GradNorm(3)
    plain.backward(losses, retain_graph=True)
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    Primary(eq.GradNorm(3), "0").backward(losses)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("make", [eq.Equal, eq.UPGrad, eq.GradDrop])
def test_the_update_is_added_to_what_grad_holds(make) -> None:
    model, x = MultiHead(3), batch()
    once, twice = Primary(make(LOSSES), "a"), Primary(make(LOSSES), "a")
    if make is eq.GradDrop:
        twice = copy.deepcopy(once)
    once.backward(opposed(model, x))
    gradient = flat_grad(list(model.parameters()))
    twice.backward(opposed(model, x))
    torch.testing.assert_close(flat_grad(list(model.parameters())), 2 * gradient)


@pytest.mark.parametrize("make", [eq.Equal, eq.UPGrad, eq.GradNorm, eq.TrimmedMean])
@pytest.mark.parametrize("through", ["callable", "scaler"])
def test_scaled_passes_give_the_same_weights_and_scaled_gradients(make, through) -> None:
    model, x = MultiHead(3, dtype=torch.float32), batch(dtype=torch.float32)
    parameters = list(model.parameters())
    plain = Primary(make(LOSSES), "a").backward(opposed(model, x))
    gradient = flat_grad(parameters)
    model.zero_grad()
    calls = []
    options = {
        "callable": {"backward": lambda loss: calls.append(1) or (loss * 8).backward()},
        "scaler": {"scaler": torch.amp.GradScaler("cpu", init_scale=8.0)},
    }[through]
    record = Primary(make(LOSSES), "a").backward(opposed(model, x), **options)
    torch.testing.assert_close(record.weights, plain.weights)
    torch.testing.assert_close(flat_grad(parameters), 8 * gradient)
    assert len(calls) == (through == "callable")


@pytest.mark.parametrize("name", [n for n in methods.of_kind(weighting=True) if n != "imtl"])
def test_the_balanced_loss_has_the_gradient_that_backward_gives(name) -> None:
    model, x = MultiHead(3), batch()
    one = Primary(methods.make(name, **_weighted(name)), "a")
    other = copy.deepcopy(one)
    one.backward(opposed(model, x))
    expected = flat_grad(list(model.parameters()))
    model.zero_grad()
    other(opposed(model, x)).backward()
    torch.testing.assert_close(flat_grad(list(model.parameters())), expected)
    assert one.weights == pytest.approx(other.weights)


def _weighted(name: str) -> dict[str, str]:
    """One scalar cannot give a loss's own parameters another gradient than the shared ones."""
    plain = getattr(methods.make(name), "heads", "weighted") == "plain"
    return {"heads": "weighted"} if plain else {}


def test_a_method_without_weights_has_no_balanced_loss() -> None:
    balancer = Primary(eq.GradDrop(LOSSES), "a")
    with pytest.raises(TypeError, match="GradDrop"):
        balancer(opposed(MultiHead(3), batch()))


@pytest.mark.parametrize("name", methods.NAMES)
def test_its_own_arithmetic_never_opposes_the_primary_gradient(name) -> None:
    alone = methods.make(name)
    balancer = Primary(copy.deepcopy(alone), "b")
    for values, rows in methods.steps(4):
        update = methods.combined(alone, values, rows)
        found = balancer.combine(values, eq.Gradients(rows))
        weight = (-(update @ rows[1]) / (rows[1] @ rows[1])).clamp(min=0)
        torch.testing.assert_close(found, update + weight * rows[1])


def test_the_weights_of_the_arithmetic_combine_to_its_update() -> None:
    balancer = Primary(eq.Equal(3), "0")
    rows = torch.tensor([[1.0, 0.0], [-4.0, 1.0], [0.0, 1.0]])
    torch.testing.assert_close(
        balancer.weigh(torch.ones(3), eq.Gradients(rows)), torch.tensor([4.0, 1.0, 1.0])
    )
    torch.testing.assert_close(
        balancer.combine(torch.ones(3), eq.Gradients(rows)), torch.tensor([0.0, 2.0])
    )


def test_a_primary_loss_without_gradient_changes_nothing() -> None:
    rows = torch.tensor([[0.0, 0.0], [-4.0, 1.0]])
    weights = Primary(eq.Equal(2), "0").weigh(torch.ones(2), eq.Gradients(rows))
    torch.testing.assert_close(weights, torch.ones(2))


@pytest.mark.parametrize("make", [eq.GradNorm, eq.Equal, eq.GradDrop])
def test_a_step_without_the_primary_loss_is_the_method_s_own(make) -> None:
    model = MultiHead(3)
    alone = make(LOSSES)
    balancer = Primary(copy.deepcopy(alone), "a")
    for absent in (False, True, True, False):
        losses = opposed(model, batch())
        if absent:
            losses["a"] = None
            losses["b"] = losses["b"] * 1.0
        alone.backward(losses, retain_graph=True)
        update = flat_grad(list(model.parameters()))
        model.zero_grad()
        record = balancer.backward(losses)
        found = flat_grad(list(model.parameters()))
        model.zero_grad()
        if absent:
            torch.testing.assert_close(found, update)
            assert record.weights[0] == 0
            assert torch.isnan(record.losses[0])
        else:
            assert not torch.allclose(found, update)


@pytest.mark.parametrize("name", methods.NAMES)
def test_saved_and_resumed_it_goes_on_bit_for_bit(name) -> None:
    model = MultiHead(3)
    batches = [batch() for _ in range(6)]
    straight = Primary(methods.make(name), "a")
    first = copy.deepcopy(straight)
    expected = [straight.backward(opposed(model, x)).weights for x in batches]
    for x in batches[:3]:
        first.backward(opposed(model, x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Primary(methods.make(name), "a")
    second.load_state_dict(torch.load(file, weights_only=True))
    for x, weights in zip(batches[3:], expected[3:], strict=True):
        assert torch.equal(second.backward(opposed(model, x)).weights, weights)


def test_frozen_it_uses_the_weights_as_they_are_and_learns_nothing() -> None:
    model = MultiHead(3)
    balancer = Primary(eq.GradNorm(LOSSES), "a")
    balancer.backward(opposed(model, batch()))
    before, weights = copy.deepcopy(balancer.state_dict()), balancer.weights
    with balancer.frozen():
        balancer.backward(opposed(model, batch()))
        assert balancer.weights == pytest.approx(weights)
        balancer(opposed(model, batch()))
    assert balancer.weights == pytest.approx(weights)
    after = balancer.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if isinstance(v, torch.Tensor))


def test_between_the_steps_that_the_method_recomputes_the_update_is_looked_at_too() -> None:
    model = MultiHead(3)
    parameters = list(model.parameters())
    balancer = Primary(eq.GradNorm(LOSSES, every=10), "a")
    for _ in range(4):
        losses = opposed(model, batch())
        primary = jacobian([losses["a"]], parameters)[0]
        model.zero_grad()
        balancer.backward(losses)
        found = flat_grad(parameters)
        assert found @ primary >= -1e-10 * found.norm() * primary.norm()


def test_a_loss_that_is_not_finite_leaves_the_state_alone() -> None:
    model = MultiHead(3)
    balancer = Primary(eq.GradNorm(LOSSES), "a")
    balancer.backward(opposed(model, batch()))
    before = copy.deepcopy(balancer.state_dict())
    losses = opposed(model, batch())
    balancer.backward({**losses, "b": losses["b"] * torch.nan})
    after = balancer.state_dict()
    counted = [k for k in before if not k.endswith(("skipped", "missed_calls"))]
    assert all(torch.equal(after[k], before[k]) for k in counted)
    assert balancer.skipped[1] == 1
    with pytest.raises(ValueError, match="'b'"):
        Primary(eq.Equal(LOSSES, nonfinite="raise"), "a").backward(
            {**opposed(model, batch()), "b": losses["b"] * torch.nan}
        )


def test_preferences_stack_and_the_outermost_has_the_last_word() -> None:
    model = MultiHead(3)
    parameters = list(model.parameters())
    shares = {"a": 0.1, "b": 0.8, "c": 0.1}
    balancer = Primary(Shares(eq.UPGrad(LOSSES), shares), "a")
    losses = opposed(model, batch())
    primary = jacobian([losses["a"]], parameters)[0]
    balancer.backward(losses, retain_graph=True)
    found = flat_grad(parameters)
    assert abs(found @ primary) <= 1e-10 * found.norm() * primary.norm()
    shared = [*model.trunk.parameters(), *model.heads[0].parameters()]
    reverse = Shares(Primary(eq.UPGrad(LOSSES), "a"), shares)
    record = reverse.backward(losses, retain_graph=True)
    lengths = record.weights * jacobian(list(losses.values()), shared).norm(dim=1)
    found = lengths / lengths.sum()
    torch.testing.assert_close(found, torch.tensor([0.1, 0.8, 0.1]).double())


def test_a_training_with_it_lowers_the_primary_loss_where_the_plain_sum_raises_it() -> None:
    def trained(balancer: eq.Balancer) -> float:
        weight = torch.tensor([1.0, 1.0], requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.01)
        for _ in range(100):
            optimizer.zero_grad()
            main, other = weight.square().sum(), 3 * (weight - 2).square().sum()
            balancer.backward({"main": main, "other": other})
            optimizer.step()
        return float(weight.detach().square().sum())

    names = ["main", "other"]
    assert trained(eq.Equal(names)) > 2.1
    assert trained(Primary(eq.Equal(names), "main")) <= 2.0 + 1e-3


@pytest.mark.parametrize(("make", "passes"), [(eq.Equal, 1), (eq.UPGrad, 3), (eq.GradDrop, 3)])
def test_a_step_costs_one_backward_pass_more_than_the_method(make, passes) -> None:
    model = MultiHead(3)
    hidden = model.trunk(batch())
    losses = dict(zip(LOSSES, (head(hidden).square().mean() for head in model.heads), strict=True))
    counted = []
    hidden.register_hook(lambda _: counted.append(1))
    Primary(make(LOSSES), "a").backward(losses)
    assert len(counted) == passes + 1


def test_unknown_names_and_other_things_than_balancers_are_refused() -> None:
    with pytest.raises(ValueError, match="`primary` is 'z'; the losses are 'a', 'b', 'c'"):
        Primary(eq.Equal(LOSSES), "z")
    with pytest.raises(TypeError, match="on top of a balancer; got 'a'"):
        Primary("a", "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [eq.Equal, eq.GradNorm, eq.MGDA])
def test_a_primary_loss_declares_that_inner_products_are_looked_at(method) -> None:
    assert eq.Primary(method(2), "0").looks_at == "gramian"


def test_a_primary_loss_on_whole_gradients_looks_at_those() -> None:
    assert eq.Primary(eq.GradDrop(2), "0").looks_at == "gradients"
