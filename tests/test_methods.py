"""One battery over every method of the registry: a new method cannot escape it."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch

import equipoise as eq
from equipoise.autograd import shared as sharing
from tests.methods import LOSSES, NAMES, combined, make, of_kind, steps, tensors_of
from tests.models import MultiHead, batch, flat_grad, jacobian

every_method = pytest.mark.parametrize("name", NAMES)


def assert_same_state(one, other) -> None:
    mine, theirs = tensors_of(one), tensors_of(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor.nan_to_num(7e7), theirs[name].nan_to_num(7e7)), name


# Built without names, these treat their first loss (and the last) apart.
SPECIAL = {
    "adaptiveratio": {"target": "a", "adversarial": "c"},
    "dbpinn": {"reference": "a"},
    "inversedirichlet": {"reference": "a"},
    "learningrateannealing": {"reference": "a"},
    "metabalance": {"target": "a"},
    "pcd": {"primary": "a"},
}


@pytest.mark.parametrize("name", of_kind(random=False))
@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:])
def test_permuted_losses_have_the_same_combined_gradient(name, order) -> None:
    options = SPECIAL.get(name, {})
    plain = make(name, **options)
    permuted = make(name, [LOSSES[i] for i in order], **options)
    for values, rows in steps(6):
        expected = combined(plain, values, rows)
        found = combined(permuted, values[list(order)], rows[list(order)])
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


HOSTILE = {
    "zero row": [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [-1.0, 0.5, 1.0]],
    "all zero": [[0.0, 0.0, 0.0]] * 3,
    "parallel": [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.5, 1.0, 1.5]],
    "identical": [[1.0, 2.0, 3.0]] * 3,
    "opposite": [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [0.0, 1.0, 0.0]],
    "cancelling": [[1.0, 0.0, 0.0], [-0.5, 1.0, 0.0], [-0.5, -1.0, 0.0]],
    "rank one with signs": [[1.0, 1.0, 0.0], [-2.0, -2.0, 0.0], [3.0, 3.0, 0.0]],
    "scales apart": [[1e-15, 2e-15, 0.0], [1.0, 0.0, 1.0], [1e15, -1e15, 1e15]],
    "tiny": [[1e-15, 0.0, 1e-16], [0.0, 1e-15, 0.0], [1e-15, 1e-15, 1e-15]],
    "huge": [[1e15, 0.0, 1e14], [0.0, 1e15, 0.0], [-1e15, 1e15, 1e15]],
}
VALUES = {
    "plain": [1.0, 0.5, 2.0],
    "zero": [0.0, 1.0, 0.0],
    "apart": [1e-15, 1.0, 1e15],
    "tiny": [1e-15, 1e-15, 1e-15],
}


@every_method
@pytest.mark.parametrize("rows", HOSTILE)
def test_hostile_input_ends_finite(name, rows) -> None:
    for values, dtype in itertools.product(VALUES, (torch.float32, torch.float64)):
        balancer = make(name)
        given = torch.tensor(VALUES[values], dtype=dtype), torch.tensor(HOSTILE[rows], dtype=dtype)
        usual = [tuple(t.to(dtype) for t in step) for step in steps(2, width=3)]
        for step in [given, given, *usual, given]:
            assert combined(balancer, *step).isfinite().all(), (values, dtype)
            for key, tensor in tensors_of(balancer).items():
                assert not tensor.isinf().any(), (values, dtype, key)


def state_moves(balancer) -> bool:
    before = {k: v.clone() for k, v in tensors_of(balancer).items()}
    for values, rows in steps(3, width=3, seed=7):
        combined(balancer, values.float() * 3, rows.float())
    learned = {k: v for k, v in tensors_of(balancer).items() if not k.startswith("weight_")}
    return any(
        not torch.equal(v.nan_to_num(7e7), before[k].nan_to_num(7e7)) for k, v in learned.items()
    )


@every_method
@pytest.mark.parametrize("size", [1e18, 1e20, 1e30, 1e38])
def test_after_losses_whose_squares_overflow_weights_move_as_before(name, size) -> None:
    torch.manual_seed(4)
    clean = make(name)
    hit = copy.deepcopy(clean)
    usual = [(v.float(), r.float()) for v, r in steps(6, width=3)]
    huge = torch.tensor([size, 1.0, size / 3]), torch.tensor(HOSTILE["scales apart"])
    for step in (*usual[:2], huge, *usual[2:]):
        assert combined(hit, *step).isfinite().all()
        for key, tensor in tensors_of(hit).items():
            assert not tensor.isinf().any(), key
        if step is not huge:
            combined(clean, *step)
    assert state_moves(hit) == state_moves(clean)


@every_method
def test_one_loss_alone_is_balanced_without_a_fuss(name) -> None:
    balancer = make(name, ["a"])
    for values, rows in steps(4, losses=1):
        found = combined(balancer, values, rows)
        assert found.isfinite().all()
        assert found.norm() == 0 or torch.cosine_similarity(found, rows[0], dim=0).abs() > 0.3


@every_method
def test_double_and_single_precision_agree(name) -> None:
    double, single = make(name), make(name)
    copy_generator(double, single)
    for values, rows in steps(5):
        expected = combined(double, values, rows)
        found = combined(single, values.float(), rows.float())
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=5e-3, atol=5e-3)


def copy_generator(source, target) -> None:
    for mine, theirs in zip(source.modules(), target.modules(), strict=True):
        if hasattr(mine, "generator"):
            theirs.generator.set_state(mine.generator.get_state())


@every_method
def test_half_precision_gradients_are_taken(name) -> None:
    balancer = make(name)
    for values, rows in steps(4, dtype=torch.bfloat16):
        assert combined(balancer, values.float(), rows).isfinite().all()


@every_method
def test_saved_loaded_and_continued_equals_uninterrupted_bit_for_bit(name) -> None:
    torch.manual_seed(3)
    whole = make(name)
    first = copy.deepcopy(whole)
    made = steps(12)
    expected = [combined(whole, *step) for step in made]
    for step in made[:6]:
        combined(first, *step)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make(name)
    second.load_state_dict(torch.load(file, weights_only=True))
    for step, wanted in zip(made[6:], expected[6:], strict=True):
        assert torch.equal(combined(second, *step), wanted)
    assert_same_state(second, whole)


@every_method
def test_an_absent_loss_changes_nothing_of_its_own_state(name) -> None:
    model = MultiHead(3)
    balancer = make(name)
    for _ in range(3):
        balancer.backward(dict(zip("abc", model(batch()), strict=True)))
    before = {k: v.clone() for k, v in tensors_of(balancer).items()}
    losses = model(batch())
    record = balancer.backward({"a": losses[0], "c": losses[2]})
    assert record.weights[1] == 0
    for part, module in balancer.named_modules():
        for key, declared in getattr(module, "declared", {}).items():
            full = f"{part}.{key}" if part else key
            now, was = tensors_of(balancer)[full], before[full]
            if declared.axes and now.numel() and now.shape == was.shape:
                assert torch.equal(now[1].nan_to_num(7e7), was[1].nan_to_num(7e7)), full
    balancer.backward(dict(zip("abc", model(batch()), strict=True)))
    assert all(p.grad.isfinite().all() for p in model.parameters())


@every_method
@pytest.mark.parametrize("present", ["a", "b", "c", "ab", "bc", "ac"])
def test_losses_come_and_go_from_the_first_step_on(name, present) -> None:
    model = MultiHead(3)
    balancer = make(name)
    for there in (present, "abc", present, "b", "abc", present):
        losses = dict(zip("abc", model(batch()), strict=True))
        model.zero_grad()
        record = balancer.backward({key: losses[key] for key in there})
        assert {LOSSES[i] for i in record.present} == set(there)
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_method
def test_on_a_live_model_the_shared_gradient_is_the_combined_one(name) -> None:
    model = MultiHead(3)
    live = make(name, **({"wrt": "shared"} if name not in of_kind(looks_at="losses") else {}))
    numbers = copy.deepcopy(live)
    trunk = list(sharing.parameters(model(batch())).shared)
    assert set(trunk) == set(model.trunk.parameters())
    for _ in range(4):
        losses = model(batch())
        values = torch.stack(losses).detach()
        rows = jacobian(losses, trunk)
        gradients = eq.Gradients(rows, sizes=[p.numel() for p in trunk])
        expected = numbers.combine(values, gradients)
        model.zero_grad()
        live.backward(losses)
        torch.testing.assert_close(flat_grad(trunk), expected, rtol=1e-8, atol=1e-10)
        assert_close_states(live, numbers)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.01 * parameter.grad)


def assert_close_states(live, numbers) -> None:
    ours = {k: v for k, v in tensors_of(numbers).items() if not k.startswith("weight_")}
    for key, tensor in ours.items():
        found = tensors_of(live)[key]
        if found.shape == tensor.shape:
            torch.testing.assert_close(found, tensor, rtol=1e-7, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", of_kind(weighting=True))
def test_the_balanced_loss_gives_the_shared_gradient_that_backward_gives(name) -> None:
    model, x = MultiHead(3), batch()
    one = make(name)
    other = copy.deepcopy(one)
    trunk = list(model.trunk.parameters())
    one.backward(model(x))
    found = flat_grad(trunk)
    model.zero_grad()
    other(model(x)).backward()
    torch.testing.assert_close(found, flat_grad(trunk))
    torch.testing.assert_close(one.last.weights, other.last.weights)


@every_method
def test_a_bad_loss_at_any_step_leaves_no_trace(name) -> None:
    torch.manual_seed(5)
    model = MultiHead(3)
    clean = make(name)
    hit = copy.deepcopy(clean)
    for step in range(6):
        x = batch()
        clean.backward(model(x))
        hit.backward(model(x))
        if step in (0, 1, 4):
            for bad in (float("nan"), float("inf")):
                losses = model(x)
                losses[step % 3] = losses[step % 3] * bad
                hit.backward(losses)
        model.zero_grad()
    mine, theirs = tensors_of(hit), tensors_of(clean)
    for key in mine:
        if key.split(".")[-1] != "skipped":
            assert torch.equal(mine[key].nan_to_num(7e7), theirs[key].nan_to_num(7e7)), key


class Counting(torch.nn.Module):
    """Sits in the middle of a trunk and counts the backward passes that go through it."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden.clone()
        hidden.register_hook(self._count)
        return hidden

    def _count(self, gradient: torch.Tensor) -> None:
        self.passes += 1


@every_method
@pytest.mark.parametrize("losses", [2, 5])
def test_a_step_takes_as_many_passes_as_the_method_declares(name, losses) -> None:
    names = list("abcdefgh")[:losses]
    model, counting = MultiHead(losses), Counting()
    model.trunk.insert(2, counting)
    balancer = make(name, names)
    balancer.backward(model(batch()))
    assert counting.passes == eq.registry.capabilities(name).passes(losses)


@pytest.mark.parametrize("name", of_kind(weighting=True))
def test_steps_in_between_take_one_pass(name) -> None:
    model, counting = MultiHead(4), Counting()
    model.trunk.insert(2, counting)
    # Nash-MTL clips each step's gradient, whose norm takes a pass of its own.
    options = {"max_norm": 0} if name == "nashmtl" else {}
    balancer = make(name, list("abcd"), every=4, **options)
    for _ in range(4):
        counting.passes = 0
        balancer.backward(model(batch()))
    assert counting.passes == 1


# One is the other by construction until their options differ.
def test_no_two_methods_give_identical_results() -> None:
    torch.manual_seed(0)
    made = steps(8)
    found = {}
    for name in NAMES:
        balancer = make(name)
        found[name] = torch.stack([combined(balancer, *step) for step in made])
    twins = [
        (one, other)
        for one, other in itertools.combinations(NAMES, 2)
        if torch.allclose(found[one], found[other], rtol=1e-6, atol=1e-9)
    ]
    assert twins == []


@every_method
def test_stateful_methods_say_so(name) -> None:
    torch.manual_seed(0)
    balancer = make(name)
    balancer.follow(torch.zeros(3, dtype=torch.float64))
    base = {"priorities", "resting", "weight_sum", "weight_count", "skipped"}
    before = {k: v.clone() for k, v in tensors_of(balancer).items()}
    for step in steps(4, seed=9):
        combined(balancer, *step)
    if isinstance(balancer, eq.DynamicTaskPrioritization):
        balancer.observe({"a": 0.9})
    after = tensors_of(balancer)
    changed = {
        key
        for key, tensor in after.items()
        if key.split(".")[-1] not in base
        and not torch.equal(tensor.nan_to_num(7e7), before[key].nan_to_num(7e7))
    }
    assert bool(changed) == balancer.stateful, changed


@every_method
def test_a_balancer_in_the_groups_of_an_optimizer_changes_nothing(name) -> None:
    trained = []
    for listed in (False, True):
        torch.manual_seed(0)
        balancer, model = make(name), MultiHead()
        beside = [*balancer.parameters(), *balancer.buffers()] if listed else []
        optimizer = torch.optim.Adam([*model.parameters(), *beside], lr=0.01, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            balancer.backward(model(batch()))
            optimizer.step()
        trained.append((model.state_dict(), tensors_of(balancer)))
    for alone, beside in zip(*trained, strict=True):
        for key, tensor in alone.items():
            assert torch.equal(tensor.nan_to_num(7e7), beside[key].nan_to_num(7e7)), key


@every_method
def test_state_that_somebody_wants_to_train_is_refused(name) -> None:
    for key in make(name).declared:
        balancer = make(name)
        if not balancer.get_buffer(key).is_floating_point():
            continue
        balancer.get_buffer(key).requires_grad_()
        with pytest.raises(TypeError, match=f"`{key}` .*leave it out of the optimizer"):
            balancer.backward(MultiHead()(batch()))
        with pytest.raises(TypeError, match=f"`{key}` .*leave it out of the optimizer"):
            setattr(balancer, key, torch.nn.Parameter(balancer.get_buffer(key)))


@every_method
def test_a_checkpoint_of_another_method_is_refused_in_words(name) -> None:
    other = make("gradnorm" if name == "softadapt" else "softadapt")
    kind = type(make(name)).__name__
    with pytest.raises(RuntimeError, match=f"is not the state of {kind}: load it into the method"):
        make(name).load_state_dict(other.state_dict())
