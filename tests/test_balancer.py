from __future__ import annotations

import copy
import io

import pytest
import torch

import equipoise as eq
from tests.models import MultiHead, batch, flat_grad


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_equal_weights_are_the_plain_sum_bit_for_bit(optimizer) -> None:
    plain = MultiHead(3, dtype=torch.float32)
    balanced = copy.deepcopy(plain)
    balancer = eq.Equal(3)
    steps = [(m, optimizer(m.parameters(), lr=0.1)) for m in (plain, balanced)]
    schedules = [torch.optim.lr_scheduler.StepLR(o, 5) for _, o in steps]
    for _ in range(20):
        x = batch(dtype=torch.float32)
        for (model, opt), schedule in zip(steps, schedules, strict=True):
            opt.zero_grad()
            losses = model(x)
            if model is plain:
                sum(losses).backward()
            else:
                balancer.backward(losses)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            schedule.step()
    for p, q in zip(plain.parameters(), balanced.parameters(), strict=True):
        assert torch.equal(p, q)


def test_gradients_accumulate_as_those_of_backward_do() -> None:
    model = MultiHead(2)
    x = batch()
    for _ in range(2):
        eq.Fixed(2, [0.5, 2.0]).backward(model(x))
    found = flat_grad(list(model.parameters()))
    model.zero_grad()
    losses = model(x)
    (2 * (0.5 * losses[0] + 2.0 * losses[1])).backward()
    torch.testing.assert_close(found, flat_grad(list(model.parameters())))


def test_the_balanced_loss_has_the_gradient_that_backward_gives() -> None:
    model = MultiHead(3)
    x = batch()
    one, other = eq.GradNorm(3), eq.GradNorm(3)
    one.backward(model(x))
    found = flat_grad(list(model.parameters()))
    model.zero_grad()
    other(model(x)).backward()
    torch.testing.assert_close(found, flat_grad(list(model.parameters())))
    assert one.weights == other.weights


@pytest.mark.parametrize("make", [eq.GradNorm, eq.Uncertainty])
def test_priorities_multiply_the_losses_before_the_method_sees_them(make) -> None:
    model = MultiHead(2)
    prioritised, plain = make(["a", "b"], priorities={"b": 3.0}), make(["a", "b"])
    for _ in range(3):
        losses = model(batch())
        with torch.no_grad():
            expected = [1.0, 3.0]
        prioritised.backward(losses, retain_graph=True)
        plain.backward([losses[0], losses[1] * 3.0])
        for name, factor in zip("ab", expected, strict=True):
            assert prioritised.weights[name] == pytest.approx(plain.weights[name] * factor)


def test_every_k_learns_at_each_kth_step_and_reuses_in_between() -> None:
    model = MultiHead(2)
    balancer = eq.GradNorm(2, every=3)
    seen = []
    for _ in range(7):
        balancer.backward(model(batch()))
        seen.append(tuple(balancer.weights.values()))
    assert seen[0] == seen[1] == seen[2] != seen[3]
    assert seen[3] == seen[4] == seen[5] != seen[6]


@pytest.mark.parametrize("how", ["frozen", "eval"])
def test_a_frozen_balancer_uses_its_weights_and_learns_nothing(how) -> None:
    model = MultiHead(2)
    balancer = eq.GradNorm(2)
    balancer.backward(model(batch()))
    before = copy.deepcopy(balancer.state_dict())
    weights = balancer.weights
    if how == "frozen":
        with balancer.frozen():
            balancer.backward(model(batch()))
            balancer(model(batch()))
    else:
        balancer.eval().backward(model(batch()))
    assert balancer.weights == weights
    after = balancer.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if isinstance(v, torch.Tensor))


def test_without_gradients_the_balanced_loss_is_a_number_and_nothing_is_learned() -> None:
    model = MultiHead(2)
    balancer = eq.GradNorm(2)
    with torch.no_grad():
        loss = balancer(model(batch()))
    assert not loss.requires_grad
    assert balancer.weights == {"0": 1.0, "1": 1.0}


@pytest.mark.parametrize("make", [eq.Uncertainty, eq.GradNorm])
def test_an_absent_loss_leaves_its_state_untouched(make) -> None:
    model = MultiHead(3)
    balancer = make(["a", "b", "c"])
    for _ in range(3):
        balancer.backward(dict(zip("abc", model(batch()), strict=True)))
    before = copy.deepcopy(balancer.state_dict())
    losses = model(batch())
    record = balancer.backward({"a": losses[0], "b": None, "c": losses[2]})
    for name, saved in balancer.state_dict().items():
        if isinstance(saved, torch.Tensor) and saved.ndim:
            assert torch.equal(saved[1], before[name][1]), name
    assert record.present == (0, 2)
    assert record.weights[1] == 0
    assert balancer.weights["b"] == 0.0
    assert not torch.equal(balancer.resting[[0, 2]], before["resting"][[0, 2]])


def test_the_order_of_a_mapping_never_changes_the_result() -> None:
    model = MultiHead(3)
    one, other = eq.GradNorm(["a", "b", "c"]), eq.GradNorm(["a", "b", "c"])
    for _ in range(3):
        x = batch()
        one.backward(dict(zip("abc", model(x), strict=True)))
        other.backward(dict(reversed(list(zip("abc", model(x), strict=True)))))
    assert one.weights == other.weights


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(
    "make",
    [
        eq.Equal,
        eq.FirstValue,
        eq.Uncertainty,
        eq.GradNorm,
        lambda n, **o: eq.SoftAdapt(n, order=1, **o),
        lambda n, **o: eq.Fixed(n, [1.0, 2.0], **o),
    ],
)
def test_after_a_bad_step_the_next_gives_what_it_would_have_given_without_it(
    make, every, bad
) -> None:
    model = MultiHead(2)
    clean, hit = make(2, every=every), make(2, every=every)
    for step in range(6):
        x = batch()
        clean.backward(model(x))
        hit.backward(model(x))
        assert hit.weights == clean.weights
        if step in (0, 2):
            losses = model(x)
            model.zero_grad()
            hit.backward([losses[0] * bad, losses[1]])
            assert not flat_grad(list(model.parameters())).isfinite().all()
            assert hit.mean_weights == clean.mean_weights
            model.zero_grad()
    assert hit.skipped[0] == 2


@pytest.mark.parametrize("make", [eq.Uncertainty, eq.GradNorm])
def test_nonfinite_raise_names_the_loss_and_changes_nothing(make) -> None:
    model = MultiHead(2)
    balancer = make(["good", "bad"], nonfinite="raise")
    losses = model(batch())
    before = copy.deepcopy(balancer.state_dict())
    with pytest.raises(ValueError, match="Loss 'bad' is nan"):
        balancer.backward([losses[0], losses[1] * float("nan")])
    for name, saved in balancer.state_dict().items():
        if isinstance(saved, torch.Tensor):
            torch.testing.assert_close(
                saved, before[name], rtol=0, atol=0, equal_nan=True, check_dtype=False
            )
    assert all(p.grad is None for p in model.parameters())


def test_a_gradient_that_is_not_finite_does_not_reach_the_state() -> None:
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    balancer = eq.GradNorm(2)
    balancer.backward([theta.sum() + 1, (theta + 1).square().sum()])
    before = copy.deepcopy(balancer.state_dict())
    balancer.backward([theta.abs().sqrt().sum() + 1, (theta + 1).square().sum()])  # infinite slope
    for name, saved in balancer.state_dict().items():
        if isinstance(saved, torch.Tensor) and name not in (
            "calls",
            "skipped",
            "weight_sum",
            "weight_count",
        ):
            assert torch.equal(saved, before[name]), name
    assert balancer.skipped.sum() > 0


@pytest.mark.parametrize("make", [eq.Uncertainty, eq.GradNorm, lambda n: eq.SoftAdapt(n, order=2)])
def test_saved_loaded_and_continued_equals_uninterrupted_bit_for_bit(make) -> None:
    torch.manual_seed(0)
    model = MultiHead(3)
    batches = [batch() for _ in range(20)]
    whole, first = make(3), make(3)
    for x in batches:
        whole.backward(model(x))
    for x in batches[:10]:
        first.backward(model(x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make(3)
    second.load_state_dict(torch.load(file, weights_only=True))
    for x in batches[10:]:
        second.backward(model(x))
    assert second.weights == whole.weights
    assert second.mean_weights == whole.mean_weights


def test_mean_weights_are_the_time_average_of_what_was_applied() -> None:
    model = MultiHead(2)
    balancer = eq.Uncertainty(["a", "b"], priorities=[1.0, 2.0], lr=0.5)
    applied = []
    for _ in range(4):
        balancer.backward(model(batch()))
        applied.append(balancer.weights["b"])
    assert balancer.mean_weights["b"] == pytest.approx(sum(applied) / 4)
    assert eq.Fixed.from_balancer(balancer).weights["b"] == pytest.approx(
        sum(applied) / 4, rel=1e-6
    )


def test_report_before_the_first_step_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="call `backward"):
        eq.Equal(2).report()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"every": 0}, "`every` is 0"),
        ({"every": 1.5}, "`every` is 1.5"),
        ({"nonfinite": "ignore"}, "'ignore'; write 'skip' or 'raise'"),
        ({"priorities": {"c": 1.0}}, "unknown name 'c'"),
        ({"priorities": [1.0]}, "needs 2 numbers"),
    ],
)
def test_options_out_of_range_are_refused(options, says) -> None:
    with pytest.raises(ValueError, match=says):
        eq.Equal(["a", "b"], **options)


def test_the_state_follows_the_losses_to_double_precision() -> None:
    balancer = eq.Uncertainty(2)
    balancer.weigh(values(1.0, 2.0))
    assert balancer.log_variances.dtype == torch.float64


def test_a_balancer_inside_a_model_is_saved_with_it() -> None:
    model = MultiHead(2)
    model.balancer = eq.GradNorm(2)
    assert "balancer.loss_weights" in model.state_dict()
    assert not list(model.balancer.parameters())
