from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from equipoise.optim import MTAdam
from tests.golden import assert_matches, load, names, tensor
from tests.optim.reference import OneParameter
from tests.optim.training import TwoHeads, assert_equal_models, batches, train

BOTH = pytest.mark.parametrize("foreach", [False, True], ids=["tensor by tensor", "packed"])
ANYWHERE = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
BAD = pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])


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


# ---------------------------------------------------------------------------- what is not finite


# ---------------------------------------------------------------------------- as an optimizer


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


def test_parameters_of_different_precision_keep_their_own():
    parameters = [torch.ones(3, dtype=d).requires_grad_() for d in (torch.float32, torch.float64)]
    optimizer = MTAdam(parameters)
    loss = sum((p.double() * 0.1).sum() for p in parameters)
    optimizer.backward([loss])
    optimizer.step()
    norms = [optimizer.state[p]["norms"] for p in parameters]
    assert [norm.dtype for norm in norms] == [torch.float32, torch.float64]
    assert norms[1].item() == pytest.approx(0.1 * 3**0.5, rel=1e-15)


@BOTH
@ANYWHERE
def test_scalars_of_half_precision_beside_double_keep_their_dtype(foreach, on_device):
    parameters = [torch.ones((), dtype=d).requires_grad_() for d in (torch.bfloat16, torch.float64)]
    optimizer = MTAdam(parameters, foreach=foreach, on_device=on_device)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for chosen in (scaler, None):
        losses = [sum((p.double() * scale) for p in parameters) for scale in (1.0, 3.0)]
        optimizer.backward(losses, scaler=chosen)
        assert [p.grad.dtype for p in parameters] == [p.dtype for p in parameters]
        optimizer.step()


def test_gradients_set_to_zero_are_stepped_as_zeros():
    model = TwoHeads()
    optimizer = MTAdam(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        optimizer.backward(model(batches(1)[0]))
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()
    assert all(map(torch.equal, before, model.parameters()))


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


def test_a_group_added_later_joins_with_a_state_of_its_own():
    model = TwoHeads()
    optimizer = MTAdam(model.trunk.parameters())
    train(model, optimizer, batches(2))
    optimizer.add_param_group({"params": model.left.parameters(), "lr": 0.5})
    train(model, optimizer, batches(3))
    assert optimizer.state[model.trunk.weight]["step"] == 5
    assert optimizer.state[model.left.weight]["step"] == 3
    assert model.right.weight not in optimizer.state


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


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "`lr` is -1.0"),
        ({"eps": float("nan")}, "`eps` is nan"),
        ({"weight_decay": -0.1}, "`weight_decay` is -0.1"),
        ({"betas": (0.9, 0.999)}, "three numbers"),
        ({"betas": (0.9, 0.999, 1.0)}, r"`betas` is \(0.9, 0.999, 1.0\)"),
        ({"granularity": "row"}, "is 'row'; write 'tensor', 'layer', 'group' or 'all'"),
        ({"granularity": "layer"}, "named_parameters"),
        ({"nonfinite": "ignore"}, "`nonfinite` is 'ignore'; write 'skip' or 'raise'"),
        ({"losses": ["a", "b"], "ranks": [1.0]}, "`ranks` needs 2 numbers"),
        ({"losses": ["a", "b"], "ranks": {"c": 1.0}}, "unknown name 'c'"),
        ({"losses": ["a", "b"], "ranks": [1.0, 0.0]}, "`ranks` of loss 'b' is 0.0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hyperparameter_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        MTAdam([torch.ones(2).requires_grad_()], **options)
