from __future__ import annotations

import copy
import io
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from equipoise.optim import MTAdam
from tests.golden import assert_matches, load, names, tensor
from tests.optim.reference import OneParameter

BOTH = pytest.mark.parametrize("foreach", [False, True], ids=["tensor by tensor", "packed"])
ANYWHERE = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
BAD = pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])


class TwoHeads(nn.Module):
    """A trunk, and a head of its own for each of two losses of different size."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(4, 6, dtype=dtype)
        self.left = nn.Linear(6, 1, dtype=dtype)
        self.right = nn.Linear(6, 1, dtype=dtype)

    def forward(self, x):
        shared = self.trunk(x).tanh()
        return {"left": self.left(shared).square().mean(), "right": self.far(shared)}

    def far(self, shared):
        return 1000 * (self.right(shared) - 1).square().mean()


def batches(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 4, generator=generator, dtype=dtype) for _ in range(count)]


def train(model, optimizer, data):
    for x in data:
        optimizer.zero_grad()
        optimizer.backward(model(x))
        optimizer.step()


def assert_equal_models(one, other, **tolerance):
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, **(tolerance or {"rtol": 0, "atol": 0}))


def snapshot(model, optimizer):
    values = [p.detach().clone() for p in model.parameters()]
    states = [
        value.clone() for p in model.parameters() for _, value in sorted(optimizer.state[p].items())
    ]
    return values + states


def linear_losses(parameters, gradients):
    """Losses whose gradients are exactly the given numbers."""
    return [
        sum((p * tensor(g).view_as(p)).sum() for p, g in zip(parameters, of_loss, strict=True))
        for of_loss in gradients
    ]


# ---------------------------------------------------------------------------- the formula


@BOTH
@ANYWHERE
@pytest.mark.parametrize("name", names("mtadam__*"))
def test_parameters_and_norms_follow_the_authors_code(name, foreach, on_device):
    golden = load(name)
    h = golden.hyperparameters
    parameters = [
        tensor(values).reshape(shape).requires_grad_()
        for values, shape in zip(h["params0"], h["shapes"], strict=True)
    ]
    optimizer = MTAdam(
        parameters,
        lr=h["lr"],
        betas=(h["beta1"], h["beta2"], h["beta3"]),
        eps=h["eps"],
        weight_decay=h["weight_decay"],
        amsgrad=h["amsgrad"],
        ranks=h["ranks"],
        foreach=foreach,
        on_device=on_device,
    )
    for index, step in enumerate(golden.steps):
        optimizer.backward(linear_losses(parameters, step["gradients"]))
        optimizer.step()
        moved = [p.detach().flatten() for p in parameters]
        assert_matches(golden, moved, [tensor(p) for p in step["params"]], f"step {index} params")
        norms = torch.stack([optimizer.state[p]["norms"] for p in parameters], dim=1)
        assert_matches(golden, norms, tensor(step["norms"]), f"step {index} norms")


@given(data=st.data())
def test_any_trajectory_follows_the_published_order(data):
    count = data.draw(st.integers(1, 4), "losses")
    shapes = data.draw(
        st.lists(st.sampled_from([(3,), (2, 2), (), (1, 5)]), min_size=1, max_size=4)
    )
    seed = data.draw(st.integers(0, 2**16), "seed")
    options = {
        "lr": data.draw(st.sampled_from([1e-3, 0.1])),
        "weight_decay": data.draw(st.sampled_from([0.0, 0.1])),
        "amsgrad": data.draw(st.booleans()),
        "ranks": tuple(data.draw(st.lists(st.floats(0.1, 3), min_size=count, max_size=count))),
    }
    path = {"foreach": data.draw(st.booleans()), "on_device": data.draw(st.booleans())}
    generator = torch.Generator().manual_seed(seed)

    def random(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    values = [random(shape) for shape in shapes]
    parameters = [value.clone().requires_grad_() for value in values]
    slow = [OneParameter(value, count, **options) for value in values]
    optimizer = MTAdam(parameters, losses=count, **options, **path)
    for _ in range(6):
        present = data.draw(st.sets(st.integers(0, count - 1), min_size=1), "present")
        gradients = {
            i: [
                random(shape) * 10.0**i if data.draw(st.integers(0, 3)) else None
                for shape in shapes
            ]
            for i in present
        }
        anchor = torch.zeros((), dtype=torch.float64, requires_grad=True)
        losses = {
            str(i): sum(
                ((p * g).sum() for p, g in zip(parameters, of_loss, strict=True) if g is not None),
                start=anchor * 1,
            )
            for i, of_loss in gradients.items()
        }
        if all(g is None for of_loss in gradients.values() for g in of_loss):
            continue
        optimizer.backward(losses)
        optimizer.step()
        for j, one in enumerate(slow):
            one.step({i: of_loss[j] for i, of_loss in gradients.items()})
    for p, one in zip(parameters, slow, strict=True):
        torch.testing.assert_close(p.detach(), one.value, rtol=1e-9, atol=1e-11)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [{}, {"amsgrad": True}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "maximize": True}],
    ids=str,
)
def test_with_one_loss_it_is_adam_bit_for_bit(options, dtype, foreach):
    ours, theirs = TwoHeads(dtype), TwoHeads(dtype)
    optimizer = MTAdam(ours.parameters(), lr=0.01, foreach=foreach, **options)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, **options)
    for x in batches(20, dtype):
        optimizer.backward([ours(x)["left"]])
        optimizer.step()
        adam.zero_grad()
        theirs(x)["left"].backward()
        adam.step()
    assert_equal_models(ours, theirs)


@BOTH
def test_with_one_loss_and_decoupled_weight_decay_it_is_adamw_bit_for_bit(foreach):
    ours, theirs = TwoHeads(), TwoHeads()
    options = {"lr": 0.01, "weight_decay": 0.1}
    optimizer = MTAdam(ours.parameters(), decoupled_weight_decay=True, foreach=foreach, **options)
    adam = torch.optim.AdamW(theirs.parameters(), **options)
    for x in batches(20):
        optimizer.backward([ours(x)["right"]])
        optimizer.step()
        adam.zero_grad()
        theirs(x)["right"].backward()
        adam.step()
    assert_equal_models(ours, theirs)


def test_with_one_loss_and_a_complex_parameter_it_is_adam():
    ours = torch.randn(3, dtype=torch.complex128).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    optimizer, adam = MTAdam([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1)
    for _ in range(5):
        optimizer.backward([(ours - 1j).abs().square().sum()])
        optimizer.step()
        adam.zero_grad()
        (theirs - 1j).abs().square().sum().backward()
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@ANYWHERE
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amsgrad": True, "maximize": True},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"granularity": "layer"},
    ],
    ids=str,
)
def test_packed_and_tensor_by_tensor_give_the_same(options, on_device):
    models = [TwoHeads(), TwoHeads()]
    for model, foreach in zip(models, [False, True], strict=True):
        model.register_parameter("large", nn.Parameter(torch.ones(1 << 16, dtype=torch.float64)))
        named = model.named_parameters()
        optimizer = MTAdam(named, lr=0.01, foreach=foreach, on_device=on_device, **options)
        for x in batches(8):
            losses = model(x)
            losses["left"] = losses["left"] * model.large.square().mean()
            optimizer.backward(losses)
            optimizer.step()
    assert_equal_models(*models, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("granularity", "units"),
    [
        ("tensor", [[0], [1], [2], [3]]),
        ("layer", [[0, 1], [2, 3]]),
        ("group", [[0, 1, 2, 3]]),
        ("all", [[0, 1, 2, 3]]),
    ],
)
def test_a_norm_is_taken_over_its_unit(granularity, units):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double()
    parameters = list(model.parameters())
    optimizer = MTAdam(model.named_parameters(), granularity=granularity)
    loss = model(batches(1)[0]).square().sum()
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    optimizer.backward([loss])
    optimizer.step()
    for unit in units:
        expected = torch.cat([gradients[i].flatten() for i in unit]).norm()
        for i in unit:
            torch.testing.assert_close(optimizer.state[parameters[i]]["norms"][0], expected)


def test_groups_have_norms_of_their_own_and_all_takes_one_over_every_group():
    a, b = torch.full((2,), 3.0).requires_grad_(), torch.full((1,), 4.0).requires_grad_()
    for granularity, expected in [("group", (18**0.5, 4.0)), ("all", (34**0.5, 34**0.5))]:
        optimizer = MTAdam([{"params": [a]}, {"params": [b]}], lr=0, granularity=granularity)
        optimizer.backward([(a.square().sum() + b.square().sum()) / 2])
        optimizer.step()
        norms = [float(optimizer.state[p]["norms"][0]) for p in (a, b)]
        assert norms == pytest.approx(expected)


def test_a_tensor_a_sequence_and_a_mapping_of_losses_are_the_same():
    models = [TwoHeads(), TwoHeads(), TwoHeads()]
    forms = [
        dict,
        lambda losses: list(losses.values()),
        lambda losses: torch.stack([*losses.values()]),
    ]
    for model, form in zip(models, forms, strict=True):
        optimizer = MTAdam(model.parameters())
        for x in batches(3):
            optimizer.backward(form(model(x)))
            optimizer.step()
    assert_equal_models(models[0], models[1])
    assert_equal_models(models[0], models[2])


@BOTH
def test_the_layout_of_a_parameter_in_memory_changes_nothing(foreach):
    values = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    plain = values.clone().requires_grad_()
    strided = values.clone(memory_format=torch.channels_last).requires_grad_()
    for weight in (plain, strided):
        empty = torch.zeros(0, dtype=torch.float64, requires_grad=True)
        optimizer = MTAdam([weight, empty], lr=0.1, foreach=foreach)
        for _ in range(3):
            optimizer.backward([weight.square().sum() + empty.sum(), 50 * weight[0].sum()])
            optimizer.step()
    torch.testing.assert_close(plain, strided, rtol=1e-12, atol=0)


def test_ranks_by_name_scale_the_gradients_relative_to_the_anchor():
    weight = torch.ones(2).requires_grad_()
    optimizer = MTAdam([weight], ranks={"second": 3.0})
    optimizer.backward({"first": weight[0] * 2, "second": weight[1] * 50})
    torch.testing.assert_close(weight.grad, torch.tensor([2.0, 6.0]))


# ---------------------------------------------------------------------------- absent and unreached


def test_an_absent_loss_rests_and_still_is_the_anchor():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters(), lr=0.01)
    first, second = batches(2)
    train(model, optimizer, [first])
    state = copy.deepcopy(optimizer.state[model.trunk.weight])
    right = model(second)["right"]
    own = torch.autograd.grad(right, model.trunk.weight, retain_graph=True)[0]
    optimizer.backward({"left": None, "right": right})
    scale = state["norms"][0] / (0.9 * state["norms"][1] + 0.1 * own.norm())
    torch.testing.assert_close(model.trunk.weight.grad, own * scale)
    optimizer.step()
    after = optimizer.state[model.trunk.weight]
    assert torch.equal(after["norms"][0], state["norms"][0])
    assert torch.equal(after["exp_avg_sqs"][0], state["exp_avg_sqs"][0])
    assert after["norms"][1] != state["norms"][1]


def test_a_loss_first_seen_late_starts_with_its_own_norm():
    weight = torch.ones(3).requires_grad_()
    optimizer = MTAdam([weight], losses=["early", "late"])
    for _ in range(3):
        optimizer.backward({"early": weight.sum()})
        optimizer.step()
    assert optimizer.state[weight]["norms"][1] == -1
    optimizer.backward({"late": 5 * weight.sum()})
    optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["norms"][1], torch.tensor(5 * 3**0.5))


@BOTH
def test_a_parameter_that_no_loss_reaches_rests_as_in_adam(foreach):
    ours, theirs = TwoHeads(), TwoHeads()
    optimizer = MTAdam(ours.parameters(), weight_decay=0.1, foreach=foreach)
    adam = torch.optim.Adam(theirs.parameters(), weight_decay=0.1)
    for index, x in enumerate(batches(9)):
        name = ("left", "right", "left")[index % 3]
        optimizer.zero_grad()
        optimizer.backward([ours(x)[name]])
        optimizer.step()
        adam.zero_grad()
        theirs(x)[name].backward()
        adam.step()
    assert_equal_models(ours, theirs)


def test_state_stays_where_it_is_while_heads_take_turns():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters(), losses=["left", "right"])

    def turn(x, name):
        optimizer.backward({name: model(x)[name]})
        optimizer.step()

    data = batches(6)
    for x, name in zip(data[:3], ("left", "right", "left"), strict=True):
        turn(x, name)
    places = [optimizer.state[p]["exp_avg"].data_ptr() for p in model.parameters()]
    for x, name in zip(data[3:], ("right", "left", "right"), strict=True):
        turn(x, name)
    assert places == [optimizer.state[p]["exp_avg"].data_ptr() for p in model.parameters()]


def test_frozen_parameters_stay_and_thawed_ones_join():
    model = TwoHeads()
    model.trunk.requires_grad_(requires_grad=False)
    optimizer = MTAdam(model.parameters(), lr=0.1)
    before = model.trunk.weight.clone()
    train(model, optimizer, batches(2))
    assert torch.equal(model.trunk.weight, before)
    model.trunk.requires_grad_(requires_grad=True)
    train(model, optimizer, batches(2))
    assert not torch.equal(model.trunk.weight, before)


# ---------------------------------------------------------------------------- what is not finite


@BAD
@BOTH
@ANYWHERE
def test_a_step_with_a_bad_loss_leaves_no_trace(bad, foreach, on_device):
    spoiled, clean = TwoHeads(), TwoHeads()
    options = {"lr": 0.01, "weight_decay": 0.1, "foreach": foreach, "on_device": on_device}
    ours, plain = (MTAdam(m.parameters(), **options) for m in (spoiled, clean))
    data = batches(5)
    for index, x in enumerate(data):
        train(clean, plain, [x])
        train(spoiled, ours, [x])
        if index in {0, 2, 3}:
            before = snapshot(spoiled, ours)
            losses = spoiled(x)
            losses["right"] = losses["right"] * bad
            ours.backward(losses)
            assert all(p.grad.isnan().all() for p in spoiled.parameters())
            ours.step()
            assert all(map(torch.equal, before, snapshot(spoiled, ours)))
    assert_equal_models(spoiled, clean)
    assert ours.skipped == 3
    assert ours.rested == {"left": 0, "right": 0}


@ANYWHERE
def test_a_bad_loss_in_the_very_first_step_leaves_no_trace(on_device):
    spoiled, clean = TwoHeads(), TwoHeads()
    ours, plain = (MTAdam(m.parameters(), on_device=on_device) for m in (spoiled, clean))
    losses = spoiled(batches(1)[0])
    ours.backward({"left": losses["left"] * float("nan"), "right": losses["right"]})
    ours.step()
    train(spoiled, ours, batches(3))
    train(clean, plain, batches(3))
    assert_equal_models(spoiled, clean)


@BOTH
@ANYWHERE
@pytest.mark.parametrize("position", ["left", "right"])
def test_a_finite_loss_with_a_bad_gradient_rests_as_an_absent_one(position, foreach, on_device):
    spoiled, clean = TwoHeads(), TwoHeads()
    options = {"lr": 0.01, "foreach": foreach, "on_device": on_device, "losses": ["left", "right"]}
    ours, plain = (MTAdam(m.parameters(), **options) for m in (spoiled, clean))
    first, second, third = batches(3)
    for model, optimizer in ((spoiled, ours), (clean, plain)):
        train(model, optimizer, [first])
        losses = model(second)
        every = sum(p.sum() for p in model.parameters())
        if model is spoiled:
            losses[position] = (every - every.detach()).abs().sqrt()  # 0, with an endless slope
        else:
            losses[position] = None
        losses = {k: None if v is None else v + every - every.detach() for k, v in losses.items()}
        optimizer.backward(losses)
        optimizer.step()
        train(model, optimizer, [third])
    assert_equal_models(spoiled, clean, rtol=1e-12, atol=1e-14)
    assert ours.rested == {"left": int(position == "left"), "right": int(position == "right")}
    assert ours.skipped == 0


@ANYWHERE
def test_a_step_whose_every_gradient_is_bad_is_skipped(on_device):
    weight = torch.zeros(2).requires_grad_()
    optimizer = MTAdam([weight], on_device=on_device)
    optimizer.backward([weight.sum().abs().sqrt()])
    optimizer.step()
    assert weight.detach().tolist() == [0.0, 0.0]
    assert optimizer.skipped == 1
    assert weight.grad.isnan().all()


def test_raise_names_the_loss_that_is_not_finite():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters(), nonfinite="raise")
    losses = model(batches(1)[0])
    with pytest.raises(ValueError, match="Loss 'right' is NaN or infinite"):
        optimizer.backward({"left": losses["left"], "right": losses["right"] * float("nan")})
    train(model, optimizer, batches(2))


def test_raise_names_the_loss_whose_gradient_is_not_finite():
    weight = torch.zeros(2).requires_grad_()
    optimizer = MTAdam([weight], nonfinite="raise")
    with pytest.raises(ValueError, match="gradient of loss 'root' is NaN or infinite"):
        optimizer.backward({"plain": weight.sum(), "root": weight.sum().abs().sqrt()})
    assert weight.grad is None


def test_losses_of_very_different_size_stay_finite():
    model = TwoHeads(torch.float32)
    optimizer = MTAdam(model.parameters())
    for x in batches(3, torch.float32):
        losses = model(x)
        optimizer.backward({"left": 1e-15 * losses["left"], "right": 1e12 * losses["right"]})
        optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


# ---------------------------------------------------------------------------- as an optimizer


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_saved_and_loaded_it_continues_bit_for_bit(foreach, dtype):
    whole = TwoHeads(dtype)
    optimizer = MTAdam(whole.parameters(), lr=0.01, foreach=foreach, amsgrad=True)
    data = batches(6, dtype)
    train(whole, optimizer, data[:3])
    file = io.BytesIO()
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = TwoHeads(dtype)
    resumed.load_state_dict(saved["model"])
    fresh = MTAdam(resumed.parameters(), foreach=foreach)
    fresh.load_state_dict(saved["optimizer"])
    assert fresh.names == ("left", "right")
    train(whole, optimizer, data[3:])
    train(resumed, fresh, data[3:])
    assert_equal_models(whole, resumed)


def test_two_optimizers_never_share_loaded_state():
    one, other = TwoHeads(), TwoHeads()
    first, second = MTAdam(one.parameters()), MTAdam(other.parameters())
    train(one, first, batches(2))
    other.load_state_dict(one.state_dict())
    second.load_state_dict(first.state_dict())
    train(one, first, batches(2))
    train(other, second, batches(2))
    assert_equal_models(one, other)


def test_a_state_saved_for_other_losses_is_refused():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    train(model, optimizer, batches(1))
    with pytest.raises(ValueError, match=r"left, right.*a, b.*losses=\['left', 'right'\]"):
        MTAdam(model.parameters(), losses=["a", "b"]).load_state_dict(optimizer.state_dict())


def test_a_state_saved_by_another_optimizer_is_refused():
    model = TwoHeads()
    saved = torch.optim.Adam(model.parameters()).state_dict()
    with pytest.raises(ValueError, match="not saved by MTAdam"):
        MTAdam(model.parameters()).load_state_dict(saved)


def test_a_copy_continues_on_its_own():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters(), lr=0.01, ranks={"left": 2.0})
    train(model, optimizer, batches(2))
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    before = snapshot(model, optimizer)
    train(twin, twin_optimizer, batches(3))
    assert all(map(torch.equal, before, snapshot(model, optimizer)))
    train(model, optimizer, batches(3))
    assert_equal_models(model, twin)


@ANYWHERE
def test_micro_batches_add_up_to_the_whole_batch(on_device):
    one, other = TwoHeads(), TwoHeads()
    whole, parts = (MTAdam(m.parameters(), on_device=on_device) for m in (one, other))
    for x in batches(3):
        train(one, whole, [x])
        with parts.accumulate():
            for part in x.chunk(4)[:-1]:
                parts.backward({name: loss / 4 for name, loss in other(part).items()})
        parts.backward({name: loss / 4 for name, loss in other(x.chunk(4)[-1]).items()})
        parts.step()
    assert_equal_models(one, other, rtol=1e-10, atol=1e-12)


def test_a_loss_that_only_one_micro_batch_has_is_part_of_the_step():
    one, other = TwoHeads(), TwoHeads()
    whole, parts = MTAdam(one.parameters()), MTAdam(other.parameters(), losses=["left", "right"])
    x = batches(1)[0]
    train(one, whole, [x])
    with parts.accumulate():
        parts.backward({"left": other(x)["left"]})
    parts.backward({"right": other(x)["right"]})
    parts.step()
    assert_equal_models(one, other)


@ANYWHERE
def test_one_bad_micro_batch_skips_the_whole_step(on_device):
    model = TwoHeads()
    optimizer = MTAdam(model.parameters(), on_device=on_device)
    first, second = batches(2)
    train(model, optimizer, [first])
    before = snapshot(model, optimizer)
    with optimizer.accumulate():
        optimizer.backward([loss * float("nan") for loss in model(first).values()])
    optimizer.backward(model(second))
    optimizer.step()
    assert all(map(torch.equal, before, snapshot(model, optimizer)))
    train(model, optimizer, [second])
    assert not torch.equal(before[0], model.trunk.weight)


@BOTH
def test_a_grad_scaler_changes_nothing_but_the_scale(foreach):
    scaled, plain = TwoHeads(), TwoHeads()
    ours, theirs = (MTAdam(m.parameters(), lr=0.01, foreach=foreach) for m in (scaled, plain))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=2)
    for index, x in enumerate(batches(6)):
        ours.zero_grad()
        ours.backward(scaled(x), scaler=scaler)
        if index % 2:
            scaler.unscale_(ours)
        scaler.step(ours)
        scaler.update()
        train(plain, theirs, [x])
    assert scaler.get_scale() > 2.0**16
    assert_equal_models(scaled, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", ["left", "right"])
def test_an_overflow_found_by_the_scaler_moves_no_state(loss):
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    train(model, optimizer, batches(2))
    before = snapshot(model, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    losses = model(batches(1)[0])
    every = sum(p.sum() for p in model.parameters())
    losses[loss] = losses[loss] + (every - every.detach()).abs().sqrt()
    optimizer.backward(losses, scaler=scaler)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**15
    assert all(map(torch.equal, before, snapshot(model, optimizer)))


def test_grad_is_the_sum_of_the_balanced_gradients_and_clipping_scales_the_first_moment():
    model, free = TwoHeads(), TwoHeads()
    clipped, plain = MTAdam(model.parameters()), MTAdam(free.parameters())
    x = batches(1)[0]
    for one, optimizer in ((model, clipped), (free, plain)):
        optimizer.backward(one(x))
    gradients = [torch.autograd.grad(free(x)[name], free.trunk.weight)[0] for name in free(x)]
    balanced = gradients[0] + gradients[1] * gradients[0].norm() / gradients[1].norm()
    torch.testing.assert_close(free.trunk.weight.grad, balanced)
    total = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    clipped.step()
    plain.step()
    scale = 0.01 / (total + 1e-6)
    for p, q in zip(model.parameters(), free.parameters(), strict=True):
        small, full = clipped.state[p], plain.state[q]
        torch.testing.assert_close(small["exp_avg"], full["exp_avg"] * scale)
        assert torch.equal(small["exp_avg_sqs"], full["exp_avg_sqs"])


def test_a_gradient_replaced_by_the_user_is_the_one_that_is_stepped():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    optimizer.backward(model(batches(1)[0]))
    weight = model.trunk.weight
    weight.grad = torch.full_like(weight, 2.0)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["exp_avg"], torch.full_like(weight, 0.2))


def test_a_parameter_whose_gradient_was_dropped_rests():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters(), lr=0.1)
    train(model, optimizer, batches(1))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.backward(model(batches(1)[0]))
    model.trunk.zero_grad()
    optimizer.step()
    assert torch.equal(model.trunk.weight, before[0])
    assert not torch.equal(model.left.weight, before[2])


def test_parameters_of_different_precision_keep_their_own():
    parameters = [torch.ones(3, dtype=d).requires_grad_() for d in (torch.float32, torch.float64)]
    optimizer = MTAdam(parameters)
    loss = sum((p.double() * 0.1).sum() for p in parameters)
    optimizer.backward([loss])
    optimizer.step()
    norms = [optimizer.state[p]["norms"] for p in parameters]
    assert [norm.dtype for norm in norms] == [torch.float32, torch.float64]
    assert norms[1].item() == pytest.approx(0.1 * 3**0.5, rel=1e-15)


def test_zero_grad_discards_and_the_next_step_moves_nothing():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.backward(model(batches(1)[0]))
    optimizer.zero_grad()
    optimizer.step()
    assert all(map(torch.equal, before, model.parameters()))
    train(model, optimizer, batches(1))


def test_gradients_set_to_zero_are_stepped_as_zeros():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        optimizer.backward(model(batches(1)[0]))
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()
    assert all(map(torch.equal, before, model.parameters()))


def test_a_closure_that_returns_the_losses_is_a_step():
    one, other = TwoHeads(), TwoHeads()
    plain, closed = MTAdam(one.parameters()), MTAdam(other.parameters())
    for x in batches(3):
        train(one, plain, [x])
        returned = closed.step(lambda x=x: other(x))
        assert set(returned) == {"left", "right"}
    assert_equal_models(one, other)


def test_a_closure_may_call_backward_itself():
    one, other = TwoHeads(), TwoHeads()
    plain, closed = MTAdam(one.parameters()), MTAdam(other.parameters())

    for x in batches(3):

        def closure(x=x):
            closed.zero_grad()
            losses = other(x)
            closed.backward(losses)
            return losses

        train(one, plain, [x])
        closed.step(closure)
    assert_equal_models(one, other)


def test_schedulers_groups_and_hooks_work_as_for_adam():
    ours, theirs = TwoHeads(), TwoHeads()
    calls = []
    built = []
    for model, kind in ((ours, MTAdam), (theirs, torch.optim.Adam)):
        heads = [*model.left.parameters(), *model.right.parameters()]
        groups = [{"params": model.trunk.parameters(), "lr": 0.1}, {"params": heads, "eps": 0.1}]
        optimizer = kind(groups, lr=0.01)
        optimizer.register_step_post_hook(lambda *_: calls.append(1))
        built.append((optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)))
    for x in batches(6):
        built[0][0].backward([sum(ours(x).values())])
        built[1][0].zero_grad()
        sum(theirs(x).values()).backward()
        for optimizer, scheduler in built:
            optimizer.step()
            scheduler.step()
    assert_equal_models(ours, theirs)
    assert len(calls) == 12


def test_a_learning_rate_may_be_a_tensor():
    one, other = TwoHeads(), TwoHeads()
    train(one, MTAdam(one.parameters(), lr=0.01), batches(3))
    lr = torch.tensor(0.01, dtype=torch.float64)
    train(other, MTAdam(other.parameters(), lr=lr), batches(3))
    assert_equal_models(one, other)


def test_a_group_added_later_joins_with_a_state_of_its_own():
    model = TwoHeads()
    optimizer = MTAdam(model.trunk.parameters())
    train(model, optimizer, batches(2))
    optimizer.add_param_group({"params": model.left.parameters(), "lr": 0.5})
    train(model, optimizer, batches(3))
    assert optimizer.state[model.trunk.weight]["step"] == 5
    assert optimizer.state[model.left.weight]["step"] == 3
    assert model.right.weight not in optimizer.state


def test_a_compiled_model_trains_as_the_plain_one():
    plain, inner = TwoHeads(), TwoHeads()
    compiled = torch.compile(inner, backend="aot_eager")
    train(plain, MTAdam(plain.parameters()), batches(4))
    train(compiled, MTAdam(inner.parameters()), batches(4))
    assert_equal_models(plain, inner, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------------- the price


@pytest.mark.parametrize("amsgrad", [False, True])
def test_state_is_one_first_moment_and_a_second_moment_a_loss(amsgrad):
    model = TwoHeads()
    optimizer = MTAdam(model.parameters(), amsgrad=amsgrad)
    train(model, optimizer, batches(1))
    for p in model.parameters():
        state = optimizer.state[p]
        large = sum(v.numel() for k, v in state.items() if k not in {"step", "norms"})
        assert large == (3 + amsgrad) * p.numel()
        assert state["norms"].shape == (2,)
        assert not vars(p)


def test_one_gradient_is_alive_at_a_time_and_each_loss_is_passed_once():
    dead = []

    class Watched(MTAdam):
        def _gradients(self, loss, parameters, *, retain_graph):
            dead.append(all(gradient() is None for gradient in self.seen))
            found = super()._gradients(loss, parameters, retain_graph=retain_graph)
            self.seen = [weakref.ref(gradient) for gradient in found if gradient is not None]
            return found

    model = TwoHeads()
    optimizer = Watched(model.parameters())
    optimizer.seen = []
    x = batches(1)[0]
    optimizer.backward([*model(x).values(), *model(-x).values()])
    assert dead == [True] * 4


def test_on_a_device_no_step_reads_anything_back():
    # A fake tensor has no values, so whatever would wait for one raises.
    fake = FakeTensorMode()
    with fake:
        model = TwoHeads()
    optimizer = MTAdam(
        model.named_parameters(),
        losses=["left", "right", "both"],
        granularity="layer",
        weight_decay=0.1,
        on_device=True,
    )
    with fake:
        for x in (torch.randn(8, 4, dtype=torch.float64) for _ in range(3)):
            optimizer.backward({**model(x), "both": sum(model(x).values())})
            optimizer.step()


def test_the_last_loss_frees_the_graph_unless_it_is_to_be_kept():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    losses = model(batches(1)[0])
    optimizer.backward(losses, retain_graph=True)
    optimizer.zero_grad()
    optimizer.backward(losses)
    with pytest.raises(RuntimeError, match="second time"):
        losses["right"].backward()


# ---------------------------------------------------------------------------- bad input


def test_two_backwards_without_a_step_are_refused():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    optimizer.backward(model(batches(1)[0]))
    with pytest.raises(RuntimeError, match=r"accumulate\(\)"):
        optimizer.backward(model(batches(1)[0]))


def test_a_step_with_gradients_from_elsewhere_is_refused():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    sum(model(batches(1)[0]).values()).backward()
    with pytest.raises(RuntimeError, match=r"optimizer.backward\(losses\)"):
        optimizer.step()


def test_losses_that_reach_no_parameter_are_refused():
    optimizer = MTAdam([torch.ones(2).requires_grad_()])
    with pytest.raises(ValueError, match="No loss reaches a parameter"):
        optimizer.backward([torch.ones((), requires_grad=True) * 2])


def test_other_losses_than_at_the_first_step_are_refused():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    train(model, optimizer, batches(1))
    losses = model(batches(1)[0])
    with pytest.raises(ValueError, match=r"'middle'.*'left', 'right'"):
        optimizer.backward({"middle": losses["left"]})
    with pytest.raises(ValueError, match="Got 1 losses for the 2 names"):
        optimizer.backward([losses["left"]])


def test_a_first_step_that_is_refused_fixes_no_names():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    x = batches(1)[0]
    with pytest.raises(ValueError, match="'wrong' is not a scalar"):
        optimizer.backward({"wrong": model.trunk(x)})
    with pytest.raises(ValueError, match=r"has shape \[T\]"):
        optimizer.backward(model(x)["left"])
    assert optimizer.names is None
    train(model, optimizer, [x])


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(3, 2, sparse=True)
    optimizer = MTAdam(embedding.parameters())
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.backward([embedding(torch.tensor([1])).sum()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "`lr` is -1.0"),
        ({"eps": float("nan")}, "`eps` is nan"),
        ({"weight_decay": -0.1}, "`weight_decay` is -0.1"),
        ({"betas": (0.9, 0.999)}, "three numbers"),
        ({"betas": (0.9, 0.999, 1.0)}, r"`betas` is \(0.9, 0.999, 1.0\)"),
        ({"granularity": "row"}, "'tensor', 'layer', 'group', 'all'; got 'row'"),
        ({"granularity": "layer"}, "named_parameters"),
        ({"nonfinite": "ignore"}, "'skip', 'raise'; got 'ignore'"),
        ({"losses": ["a", "b"], "ranks": [1.0]}, "`ranks` needs 2 numbers"),
        ({"losses": ["a", "b"], "ranks": {"c": 1.0}}, "unknown name 'c'"),
        ({"losses": ["a", "b"], "ranks": [1.0, 0.0]}, "`ranks` of loss 'b' is 0.0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hyperparameter_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        MTAdam([torch.ones(2).requires_grad_()], **options)


def test_a_group_that_is_refused_leaves_the_optimizer_as_it_was():
    model = TwoHeads()
    optimizer = MTAdam(model.trunk.parameters())
    with pytest.raises(ValueError, match="`lr` is -1"):
        optimizer.add_param_group({"params": model.left.parameters(), "lr": -1})
    assert len(optimizer.param_groups) == 1
