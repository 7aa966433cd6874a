"""What the optimizers write to `.grad` is what autograd would have written there."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from equipoise.optim import AutoBalance, MTAdam, MultiAdam, step
from tests.optim.training import TwoHeads, assert_equal_models, batches, snapshot, train

KINDS = pytest.mark.parametrize("kind", [MTAdam, AutoBalance, MultiAdam])
BOTH = pytest.mark.parametrize("foreach", [False, True], ids=["tensor by tensor", "packed"])
ANYWHERE = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
NAMES = ["left", "right"]


class Pictures(nn.Module):
    """Convolutions channels last, a transposed weight, and an embedding, for two losses."""

    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, width, 3, dtype=torch.float64)
        self.second = nn.Conv2d(width, width, 3, dtype=torch.float64)
        self.words = nn.Embedding(5, width, dtype=torch.float64)
        turned = torch.randn(width, 3, dtype=torch.float64).t().requires_grad_()
        self.turned = nn.Parameter(turned.detach())
        self.to(memory_format=torch.channels_last)

    def forward(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
        shown = self.second(self.first(x.to(memory_format=torch.channels_last)).tanh())
        pooled = shown.mean(dim=(2, 3)) + self.words(torch.tensor([1, 3]))
        return {
            "left": pooled.square().mean(),
            "right": 100 * (self.turned @ pooled.T).exp().mean(),
        }


def others_of(kind, model, options):
    """The optimizer has the trunk, somebody else the heads."""
    return kind(model.trunk.parameters(), losses=NAMES, **options), [
        *model.left.parameters(),
        *model.right.parameters(),
    ]


def plain_gradients(losses, leaves):
    found = torch.autograd.grad(sum(losses.values()), leaves, allow_unused=True, retain_graph=True)
    return [None if g is None else g.clone() for g in found]


# ---------------------------------------------------------------------------- completeness


@KINDS
@ANYWHERE
def test_leaves_of_others_get_what_the_plain_sum_gives_added_to_what_is_there(kind, on_device):
    model = TwoHeads()
    optimizer, heads = others_of(kind, model, {"on_device": on_device})
    x = batches(1)[0].requires_grad_()
    losses = model(x)
    expected = plain_gradients(losses, [*heads, x])
    heads[0].grad = torch.ones_like(heads[0])
    optimizer.backward(losses)
    expected[0] += 1
    for leaf, gradient in zip([*heads, x], expected, strict=True):
        torch.testing.assert_close(leaf.grad, gradient, rtol=1e-12, atol=1e-14)


@KINDS
def test_a_second_optimizer_trains_its_part(kind):
    ours, theirs = TwoHeads(), TwoHeads()
    optimizer, heads = others_of(kind, ours, {"lr": 0.0})
    pairs = [(ours, torch.optim.Adam(heads, lr=0.01)), (theirs, None)]
    theirs.trunk.requires_grad_(requires_grad=False)
    adam = torch.optim.Adam([*theirs.left.parameters(), *theirs.right.parameters()], lr=0.01)
    for x in batches(4):
        pairs[0][1].zero_grad()
        train(ours, optimizer, [x])
        pairs[0][1].step()
        adam.zero_grad()
        sum(theirs(x).values()).backward()
        adam.step()
    assert_equal_models(ours.left, theirs.left, rtol=1e-12, atol=1e-14)
    assert_equal_models(ours.right, theirs.right, rtol=1e-12, atol=1e-14)


@KINDS
def test_what_only_absent_losses_reach_stays_untouched(kind):
    model = TwoHeads()
    optimizer, _ = others_of(kind, model, {})
    optimizer.backward({"left": model(batches(1)[0])["left"]})
    assert model.left.weight.grad is not None
    assert model.right.weight.grad is None


@KINDS
def test_the_gradients_of_others_carry_the_scale_of_a_scaler(kind):
    model = TwoHeads()
    optimizer, heads = others_of(kind, model, {})
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    losses = model(batches(1)[0])
    expected = plain_gradients(losses, heads)
    optimizer.backward(losses, scaler=scaler)
    for leaf, gradient in zip(heads, expected, strict=True):
        torch.testing.assert_close(leaf.grad, 4 * gradient)


@KINDS
def test_micro_batches_of_others_add_up_and_are_written_with_the_last(kind):
    model = TwoHeads()
    optimizer, heads = others_of(kind, model, {})
    first, second = batches(2)
    expected = [
        a + b
        for a, b in zip(
            plain_gradients(model(first), heads), plain_gradients(model(second), heads), strict=True
        )
    ]
    with optimizer.accumulate():
        optimizer.backward(model(first))
        assert all(leaf.grad is None for leaf in heads)
    optimizer.backward(model(second))
    for leaf, gradient in zip(heads, expected, strict=True):
        torch.testing.assert_close(leaf.grad, gradient, rtol=1e-12, atol=1e-14)


@KINDS
@ANYWHERE
def test_a_loss_that_rests_and_a_step_that_is_skipped_add_nothing_to_others(kind, on_device):
    model = TwoHeads()
    optimizer, heads = others_of(kind, model, {"on_device": on_device})
    x = batches(1)[0]
    losses = model(x)
    expected = plain_gradients({"left": losses["left"]}, heads[:2])
    every = model.trunk.weight.sum()
    losses["right"] = losses["right"] + (every - every.detach()).abs().sqrt()
    optimizer.backward(losses)
    optimizer.step()
    assert optimizer.rested == {"left": 0, "right": 1}
    for leaf, gradient in zip(heads, expected, strict=False):
        torch.testing.assert_close(leaf.grad, gradient)
    before = [None if leaf.grad is None else leaf.grad.clone() for leaf in heads]
    losses = model(x)
    optimizer.backward({"left": losses["left"], "right": losses["right"] * torch.nan})
    for leaf, gradient in zip(heads, before, strict=True):
        assert gradient is None or torch.equal(leaf.grad, gradient)


@KINDS
def test_two_optimizers_of_the_same_losses_leave_each_others_gradients_alone(kind):
    both, one, other = TwoHeads(), TwoHeads(), TwoHeads()
    made = [kind(model.trunk.parameters()) for model in (both, one)]
    heads = [MTAdam([*m.left.parameters(), *m.right.parameters()]) for m in (both, other)]
    x = batches(1)[0]
    losses = both(x)
    made[0].backward(losses, retain_graph=True)
    heads[0].backward(losses)
    made[1].backward(one(x))
    heads[1].backward(other(x))
    assert torch.equal(both.trunk.weight.grad, one.trunk.weight.grad)
    assert torch.equal(both.left.weight.grad, other.left.weight.grad)
    made[0].step()
    heads[0].step()


@KINDS
def test_sparse_gradients_of_others_are_left_sparse(kind):
    table, weight = nn.Embedding(4, 2, sparse=True), torch.ones(2).requires_grad_()
    optimizer = kind([weight])
    picked = table(torch.tensor([1, 1, 2])) * weight
    losses = [picked.sum(), picked.square().sum()]
    expected = torch.autograd.grad(sum(losses), table.weight, retain_graph=True)[0]
    optimizer.backward(losses)
    assert table.weight.grad.is_sparse
    torch.testing.assert_close(table.weight.grad.to_dense(), expected.to_dense())


# ---------------------------------------------------------------------------- layout, ownership


@KINDS
@BOTH
@ANYWHERE
@pytest.mark.parametrize("width", [4, 96], ids=["small", "large"])
def test_gradients_are_laid_out_as_their_parameters(kind, foreach, on_device, width):
    model = Pictures(width)
    own = [p for name, p in model.named_parameters() if name != "first.weight"]
    optimizer = kind(own, foreach=foreach, on_device=on_device)
    for seed in range(2):
        model.zero_grad()
        optimizer.backward(model(seed))
        for name, p in model.named_parameters():
            assert p.grad.stride() == p.stride(), name
        optimizer.step()


@KINDS
@ANYWHERE
def test_packing_parameters_of_any_layout_changes_no_number(kind, on_device):
    models = [Pictures(), Pictures(), Pictures().to(memory_format=torch.contiguous_format)]
    for model, foreach in zip(models, (False, True, True), strict=True):
        optimizer = kind(
            model.parameters(), lr=0.01, weight_decay=0.1, foreach=foreach, on_device=on_device
        )
        for seed in range(4):
            optimizer.backward(model(seed))
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    assert_equal_models(models[0], models[1], rtol=1e-10, atol=1e-13)
    assert_equal_models(models[0], models[2], rtol=1e-10, atol=1e-13)


@KINDS
def test_state_of_one_layout_loads_into_another(kind):
    model = Pictures()
    optimizer = kind(model.parameters(), losses=NAMES)
    optimizer.backward(model())
    optimizer.step()
    twin = Pictures().to(memory_format=torch.contiguous_format)
    twin.load_state_dict(model.state_dict())
    fresh = kind(twin.parameters(), losses=NAMES)
    fresh.load_state_dict(optimizer.state_dict())
    for one, made in ((model, optimizer), (twin, fresh)):
        made.backward(one(1))
        made.step()
    assert_equal_models(model, twin, rtol=1e-10, atol=1e-13)


@KINDS
@BOTH
def test_no_two_gradients_share_memory_and_none_is_expanded(kind, foreach):
    torch.manual_seed(0)
    positions, words = nn.Embedding(6, 3), nn.Embedding(6, 3)
    others = nn.ParameterList([nn.Parameter(torch.ones(6, 3)) for _ in range(2)])
    bias = torch.zeros(3).requires_grad_()
    optimizer = kind([positions.weight, words.weight, bias], foreach=foreach)
    added = positions.weight + words.weight + others[0] + others[1] + bias
    optimizer.backward([added.sum()])
    leaves = [positions.weight, words.weight, *others, bias]
    spans = [(p.grad.data_ptr(), p.grad.data_ptr() + 4 * p.grad.numel()) for p in leaves]
    assert all(p.grad.stride() == p.stride() for p in leaves)
    for index, (start, end) in enumerate(spans):
        assert all(end <= s or e <= start for s, e in spans[index + 1 :])
    norms = [float(p.grad.norm()) for p in leaves]
    nn.utils.clip_grad_norm_(leaves, 1.0)
    total = sum(norm**2 for norm in norms) ** 0.5
    assert [float(p.grad.norm()) for p in leaves] == pytest.approx([n / total for n in norms])


# ---------------------------------------------------------------------------- hooks


@KINDS
@BOTH
def test_tensor_hooks_see_the_gradient_of_each_loss_and_may_change_it(kind, foreach):
    hooked, plain = TwoHeads(), TwoHeads()
    mask = torch.zeros(6, 4, dtype=torch.float64)
    mask[0] = 1
    seen = []
    hooked.trunk.weight.register_hook(lambda g: seen.append(g.clone()) or g * mask)
    x = batches(1)[0]
    each = [torch.autograd.grad(plain(x)[name], plain.trunk.weight)[0] for name in NAMES]
    optimizer = kind(hooked.parameters(), foreach=foreach)
    optimizer.backward(hooked(x))
    torch.testing.assert_close(seen, each)
    assert not hooked.trunk.weight.grad[1:].any()
    assert hooked.trunk.weight.grad[0].any()


@KINDS
@BOTH
def test_post_accumulate_hooks_are_called_once_a_step_when_grad_is_whole(kind, foreach):
    model = TwoHeads()
    optimizer = kind(model.trunk.parameters(), foreach=foreach)
    seen = []
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: seen.append((p, p.grad.clone())))
    for x in batches(2):
        seen.clear()
        model.zero_grad()
        with optimizer.accumulate():
            optimizer.backward(model(x))
        assert not seen
        optimizer.backward(model(x))
        assert {id(p) for p, _ in seen} == {id(p) for p in model.parameters()}
        assert len(seen) == 6
        assert all(torch.equal(p.grad, gradient) for p, gradient in seen)
        optimizer.step()


@KINDS
def test_an_optimizer_inside_the_backward_pass_trains_what_is_not_ours(kind):
    model, twin = TwoHeads(), TwoHeads()
    optimizer, heads = others_of(kind, model, {})
    inside = {p: torch.optim.SGD([p], lr=0.1) for p in heads}

    def stepped(p):
        inside[p].step()
        p.grad = None

    for p in heads:
        p.register_post_accumulate_grad_hook(stepped)
    x = batches(1)[0]
    sum(twin(x).values()).backward()
    optimizer.backward(model(x))
    torch.testing.assert_close(model.left.weight, twin.left.weight - 0.1 * twin.left.weight.grad)
    assert model.left.weight.grad is None


# ---------------------------------------------------------------------------- kinds of parameters


@KINDS
@BOTH
@pytest.mark.parametrize("turned", [False, True])
def test_complex_parameters_keep_their_imaginary_part(kind, foreach, turned):
    torch.manual_seed(0)
    values = torch.randn(3, 2, dtype=torch.complex128)
    weight = nn.Parameter(values.t() if turned else values)
    real = torch.ones(2, dtype=torch.float64).requires_grad_()
    optimizer = kind([real], foreach=foreach)
    own = kind([weight, real], foreach=foreach)
    losses = [(weight - 1j).abs().square().sum(), (weight.conj() * 1j).real.sum() + real.sum()]
    expected = torch.autograd.grad(sum(losses), weight, retain_graph=True)[0]
    optimizer.backward(losses, retain_graph=True)
    torch.testing.assert_close(weight.grad, expected)
    own.backward([losses[1]])
    assert weight.grad.imag.abs().sum() > 0
    assert weight.grad.stride() == weight.stride()
    own.step()


@KINDS
@pytest.mark.parametrize("named", [False, True])
def test_a_parameter_with_sparse_gradients_is_named(kind, named):
    model = nn.ModuleDict({"words": nn.Embedding(3, 2, sparse=True)})
    optimizer = kind(model.named_parameters() if named else model.parameters())
    expected = "'words.weight'" if named else r"a parameter of shape \(3, 2\)"
    with pytest.raises(RuntimeError, match=rf"that of {expected} is sparse.*sparse=False"):
        optimizer.backward([model["words"](torch.tensor([1])).sum()])


# ---------------------------------------------------------------------------- passes that fail


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise torch.OutOfMemoryError


@KINDS
@BOTH
@ANYWHERE
@pytest.mark.parametrize("first", [False, True], ids=["later", "first step"])
def test_a_pass_that_fails_leaves_all_state_as_it_was(kind, foreach, on_device, first):
    hurt, clean = TwoHeads(), TwoHeads()
    options = {"lr": 0.01, "foreach": foreach, "on_device": on_device, "losses": NAMES}
    ours, plain = (kind(m.parameters(), **options) for m in (hurt, clean))
    if not first:
        train(hurt, ours, batches(2))
        train(clean, plain, batches(2))
        before = snapshot(hurt, ours)
    losses = hurt(batches(1)[0])
    with pytest.raises(torch.OutOfMemoryError):
        ours.backward({"left": losses["left"], "right": Fails.apply(losses["right"])})
    if not first:
        assert all(map(torch.equal, before, snapshot(hurt, ours)))
    assert (ours.skipped, ours.rested) == (0, {"left": 0, "right": 0})
    ours.step()  # there is nothing to take
    train(hurt, ours, batches(3))
    train(clean, plain, batches(3))
    assert_equal_models(hurt, clean)


@KINDS
@pytest.mark.parametrize("which", ["tensor", "post", "post of another"])
def test_a_hook_that_fails_leaves_all_state_as_it_was(kind, which):
    hurt, clean = TwoHeads(), TwoHeads()
    own = [p for name, p in hurt.named_parameters() if not name.startswith("right")]
    same = [p for name, p in clean.named_parameters() if not name.startswith("right")]
    ours, plain = kind(own, lr=0.01), kind(same, lr=0.01)
    train(hurt, ours, batches(2))
    train(clean, plain, batches(2))
    before = copy.deepcopy(ours.state_dict()["state"])
    calls = []

    def failing(_):
        calls.append(1)
        if which != "tensor" or len(calls) == 2:
            raise KeyError(which)

    leaf = hurt.right.weight if which == "post of another" else hurt.trunk.weight
    register = leaf.register_hook if which == "tensor" else leaf.register_post_accumulate_grad_hook
    handle = register(failing)
    with pytest.raises(KeyError):
        ours.backward(hurt(batches(1)[0]))
    handle.remove()
    after = ours.state_dict()["state"]
    for key, state in before.items():
        for name, value in state.items():
            assert torch.equal(value, after[key][name]), name
    train(hurt, ours, batches(2))
    train(clean, plain, batches(2))
    assert_equal_models(hurt, clean)


@KINDS
def test_a_micro_batch_that_fails_discards_those_before(kind):
    hurt, clean = TwoHeads(), TwoHeads()
    ours, plain = kind(hurt.parameters()), kind(clean.parameters())
    x = batches(1)[0]
    losses = hurt(x)
    with ours.accumulate():
        ours.backward(hurt(x))
        with pytest.raises(torch.OutOfMemoryError):
            ours.backward({"left": losses["left"], "right": Fails.apply(losses["right"])})
    train(hurt, ours, [x])
    train(clean, plain, [x])
    assert_equal_models(hurt, clean)


@KINDS
def test_where_gradients_are_too_large_to_wait_a_failure_says_that_moments_moved(kind, monkeypatch):
    monkeypatch.setattr(step, "WAITING", 0)
    one, other = TwoHeads(), TwoHeads()
    optimizer = kind(one.parameters())
    train(one, optimizer, batches(2))
    with monkeypatch.context() as patch:
        patch.undo()
        train(other, kind(other.parameters()), batches(2))
    assert_equal_models(one, other)
    losses = one(batches(1)[0])
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="last checkpoint"):
        optimizer.backward({"left": losses["left"], "right": Fails.apply(losses["right"])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(one, optimizer, batches(1))


# ---------------------------------------------------------------------------- what surrounds a step


@KINDS
@ANYWHERE
def test_autocast_around_backward_and_step_changes_nothing(kind, on_device):
    inside, outside = (nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)) for _ in range(2))
    outside.load_state_dict(inside.state_dict())
    options = {"lr": 0.01, "on_device": on_device}
    optimizers = [kind(m.parameters(), **options) for m in (inside, outside)]
    torch.manual_seed(0)
    for x in torch.randn(4, 16, 8):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = inside(x).square().mean(dim=0)
            optimizers[0].backward(losses)
            optimizers[0].step()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = outside(x).square().mean(dim=0)
        optimizers[1].backward(losses)
        optimizers[1].step()
    assert_equal_models(inside, outside)


@KINDS
@pytest.mark.parametrize("stacked", [False, True])
def test_under_no_grad_losses_with_a_graph_go_backward_as_in_torch(kind, stacked):
    one, other = TwoHeads(), TwoHeads()
    inside, outside = kind(one.parameters()), kind(other.parameters())
    x = batches(1)[0]
    losses = one(x)
    given = torch.stack([*losses.values()]) if stacked else losses
    with torch.no_grad():
        inside.backward(given)
        inside.step()
    train(other, outside, [x])
    assert_equal_models(one, other)
    with torch.no_grad(), pytest.raises(ValueError, match="No loss has a graph"):
        inside.backward(torch.stack([*one(x).values()]) if stacked else one(x))


@KINDS
def test_losses_of_inference_mode_are_refused_and_a_call_inside_it_is_as_outside(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    x = batches(1)[0]
    with torch.inference_mode():
        losses = model(x)
    with pytest.raises(
        RuntimeError, match=r"computed under `torch.inference_mode.*leave it before"
    ):
        optimizer.backward(losses)
    losses = model(x)
    with torch.inference_mode():
        optimizer.backward(losses)
    assert not any(p.grad.is_inference() for p in model.parameters())
    optimizer.step()
    train(model, optimizer, [x])


@KINDS
def test_a_loss_that_starts_late_is_told_to_be_named_from_the_start(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    train(model, optimizer, batches(1))
    losses = model(batches(1)[0])
    late = {**losses, "late": losses["left"]}
    with pytest.raises(ValueError, match=r"starts late.*losses=\['left', 'right', 'late'\]"):
        optimizer.backward(late)
    named = kind(model.parameters(), losses=["left", "right", "late"])
    train(model, named, batches(1))
    losses = model(batches(1)[0])
    named.backward({**losses, "late": losses["left"]})
    named.step()
