from __future__ import annotations

import copy
import io
import weakref
from collections import UserList

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from equipoise.optim import AutoBalance, MTAdam, MultiAdam
from tests.optim.training import TwoHeads, assert_equal_models, batches, snapshot, train

KINDS = pytest.mark.parametrize("kind", [MTAdam, AutoBalance, MultiAdam])
BOTH = pytest.mark.parametrize("foreach", [False, True], ids=["tensor by tensor", "packed"])
ANYWHERE = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
OWN = {
    MTAdam: {"amsgrad": True, "ranks": {"left": 2.0}, "granularity": "layer"},
    AutoBalance: {"weights": {"left": 2.0}},
    MultiAdam: {"group_weights": {"left": 0.7, "right": 0.3}},
}
BAD = pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])


@KINDS
def test_a_configurations_own_kind_of_list_leaves_a_checkpoint_of_plain_values(kind):
    betas = UserList([0.9, 0.99, 0.9][: 3 if kind is MTAdam else 2])
    optimizer = kind(TwoHeads().parameters(), betas=betas, losses=UserList(["left", "right"]))
    assert optimizer.param_groups[0]["betas"] == tuple(betas)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"][0]["losses"] == ["left", "right"]


@KINDS
def test_frozen_parameters_stay_and_thawed_ones_join(kind):
    model = TwoHeads()
    model.trunk.requires_grad_(requires_grad=False)
    optimizer = kind(model.parameters(), lr=0.1)
    before = model.trunk.weight.clone()
    train(model, optimizer, batches(2))
    assert torch.equal(model.trunk.weight, before)
    model.trunk.requires_grad_(requires_grad=True)
    train(model, optimizer, batches(2))
    assert not torch.equal(model.trunk.weight, before)


@KINDS
@BAD
@BOTH
@ANYWHERE
def test_a_step_with_a_bad_loss_leaves_no_trace(kind, bad, foreach, on_device):
    spoiled, clean = TwoHeads(), TwoHeads()
    options = {"lr": 0.01, "weight_decay": 0.1, "foreach": foreach, "on_device": on_device}
    ours, plain = (kind(m.parameters(), **options) for m in (spoiled, clean))
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


@KINDS
@ANYWHERE
def test_a_bad_loss_in_the_very_first_step_leaves_no_trace(kind, on_device):
    spoiled, clean = TwoHeads(), TwoHeads()
    ours, plain = (kind(m.parameters(), on_device=on_device) for m in (spoiled, clean))
    losses = spoiled(batches(1)[0])
    ours.backward({"left": losses["left"] * float("nan"), "right": losses["right"]})
    ours.step()
    train(spoiled, ours, batches(3))
    train(clean, plain, batches(3))
    assert_equal_models(spoiled, clean)


@KINDS
@BOTH
@ANYWHERE
@pytest.mark.parametrize("position", ["left", "right"])
def test_a_finite_loss_with_a_bad_gradient_rests_as_an_absent_one(
    kind, position, foreach, on_device
):
    spoiled, clean = TwoHeads(), TwoHeads()
    options = {"lr": 0.01, "foreach": foreach, "on_device": on_device, "losses": ["left", "right"]}
    ours, plain = (kind(m.parameters(), **options) for m in (spoiled, clean))
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


@KINDS
@ANYWHERE
def test_a_step_whose_every_gradient_is_bad_is_skipped(kind, on_device):
    weight = torch.zeros(2).requires_grad_()
    optimizer = kind([weight], on_device=on_device)
    optimizer.backward([weight.sum().abs().sqrt()])
    optimizer.step()
    assert weight.detach().tolist() == [0.0, 0.0]
    assert optimizer.skipped == 1
    assert weight.grad.isnan().all()


@KINDS
def test_raise_names_the_loss_that_is_not_finite(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters(), nonfinite="raise")
    losses = model(batches(1)[0])
    with pytest.raises(ValueError, match="Loss 'right' is NaN or infinite"):
        optimizer.backward({"left": losses["left"], "right": losses["right"] * float("nan")})
    train(model, optimizer, batches(2))


@KINDS
def test_raise_names_the_loss_whose_gradient_is_not_finite(kind):
    weight = torch.zeros(2).requires_grad_()
    optimizer = kind([weight], nonfinite="raise")
    with pytest.raises(ValueError, match="gradient of loss 'root' is NaN or infinite"):
        optimizer.backward({"plain": weight.sum(), "root": weight.sum().abs().sqrt()})
    assert weight.grad is None


@KINDS
def test_losses_of_very_different_size_stay_finite(kind):
    model = TwoHeads(torch.float32)
    optimizer = kind(model.parameters())
    for x in batches(3, torch.float32):
        losses = model(x)
        optimizer.backward({"left": 1e-15 * losses["left"], "right": 1e12 * losses["right"]})
        optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


@KINDS
@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_saved_and_loaded_it_continues_bit_for_bit(kind, foreach, dtype):
    whole = TwoHeads(dtype)
    optimizer = kind(whole.named_parameters(), lr=0.01, foreach=foreach, **OWN[kind])
    data = batches(6, dtype)
    train(whole, optimizer, data[:3])
    file = io.BytesIO()
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = TwoHeads(dtype)
    resumed.load_state_dict(saved["model"])
    fresh = kind(resumed.named_parameters(), foreach=foreach, **OWN[kind])
    fresh.load_state_dict(saved["optimizer"])
    assert fresh.names == ("left", "right")
    train(whole, optimizer, data[3:])
    train(resumed, fresh, data[3:])
    assert_equal_models(whole, resumed)


@KINDS
def test_two_optimizers_never_share_loaded_state(kind):
    one, other = TwoHeads(), TwoHeads()
    first, second = kind(one.parameters()), kind(other.parameters())
    train(one, first, batches(2))
    other.load_state_dict(one.state_dict())
    second.load_state_dict(first.state_dict())
    train(one, first, batches(2))
    train(other, second, batches(2))
    assert_equal_models(one, other)


@KINDS
def test_a_state_saved_for_other_losses_is_refused(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    train(model, optimizer, batches(1))
    with pytest.raises(ValueError, match=r"left, right.*a, b.*losses=\['left', 'right'\]"):
        kind(model.parameters(), losses=["a", "b"]).load_state_dict(optimizer.state_dict())


@KINDS
def test_a_state_saved_by_another_optimizer_is_refused(kind):
    model = TwoHeads()
    saved = torch.optim.Adam(model.parameters()).state_dict()
    with pytest.raises(ValueError, match=f"not saved by {kind.__name__}"):
        kind(model.parameters()).load_state_dict(saved)


@KINDS
def test_a_copy_continues_on_its_own(kind):
    model = TwoHeads()
    optimizer = kind(model.named_parameters(), lr=0.01, **OWN[kind])
    train(model, optimizer, batches(2))
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    before = snapshot(model, optimizer)
    train(twin, twin_optimizer, batches(3))
    assert all(map(torch.equal, before, snapshot(model, optimizer)))
    train(model, optimizer, batches(3))
    assert_equal_models(model, twin)


@KINDS
@ANYWHERE
def test_micro_batches_add_up_to_the_whole_batch(kind, on_device):
    one, other = TwoHeads(), TwoHeads()
    whole, parts = (kind(m.parameters(), on_device=on_device) for m in (one, other))
    for x in batches(3):
        train(one, whole, [x])
        with parts.accumulate():
            for part in x.chunk(4)[:-1]:
                parts.backward({name: loss / 4 for name, loss in other(part).items()})
        parts.backward({name: loss / 4 for name, loss in other(x.chunk(4)[-1]).items()})
        parts.step()
    assert_equal_models(one, other, rtol=1e-10, atol=1e-12)


@KINDS
def test_a_loss_that_only_one_micro_batch_has_is_part_of_the_step(kind):
    one, other = TwoHeads(), TwoHeads()
    whole, parts = kind(one.parameters()), kind(other.parameters(), losses=["left", "right"])
    x = batches(1)[0]
    train(one, whole, [x])
    with parts.accumulate():
        parts.backward({"left": other(x)["left"]})
    parts.backward({"right": other(x)["right"]})
    parts.step()
    assert_equal_models(one, other)


@KINDS
@ANYWHERE
def test_one_bad_micro_batch_skips_the_whole_step(kind, on_device):
    model = TwoHeads()
    optimizer = kind(model.parameters(), on_device=on_device)
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


@KINDS
@BOTH
def test_a_grad_scaler_changes_nothing_but_the_scale(kind, foreach):
    scaled, plain = TwoHeads(), TwoHeads()
    ours, theirs = (kind(m.parameters(), lr=0.01, foreach=foreach) for m in (scaled, plain))
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


@KINDS
@pytest.mark.parametrize("loss", ["left", "right"])
def test_an_overflow_found_by_the_scaler_moves_no_state(kind, loss):
    model = TwoHeads()
    optimizer = kind(model.parameters())
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


@KINDS
def test_a_parameter_whose_gradient_was_dropped_rests(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters(), lr=0.1)
    train(model, optimizer, batches(1))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.backward(model(batches(1)[0]))
    model.trunk.zero_grad()
    optimizer.step()
    assert torch.equal(model.trunk.weight, before[0])
    assert not torch.equal(model.left.weight, before[2])


@KINDS
def test_zero_grad_discards_and_the_next_step_moves_nothing(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.backward(model(batches(1)[0]))
    optimizer.zero_grad()
    optimizer.step()
    assert all(map(torch.equal, before, model.parameters()))
    train(model, optimizer, batches(1))


@KINDS
def test_a_closure_that_returns_the_losses_is_a_step(kind):
    one, other = TwoHeads(), TwoHeads()
    plain, closed = kind(one.parameters()), kind(other.parameters())
    for x in batches(3):
        train(one, plain, [x])
        returned = closed.step(lambda x=x: other(x))
        assert set(returned) == {"left", "right"}
    assert_equal_models(one, other)


@KINDS
def test_a_closure_may_call_backward_itself(kind):
    one, other = TwoHeads(), TwoHeads()
    plain, closed = kind(one.parameters()), kind(other.parameters())

    for x in batches(3):

        def closure(x=x):
            closed.zero_grad()
            losses = other(x)
            closed.backward(losses)
            return losses

        train(one, plain, [x])
        closed.step(closure)
    assert_equal_models(one, other)


@KINDS
def test_a_learning_rate_may_be_a_tensor(kind):
    one, other = TwoHeads(), TwoHeads()
    train(one, kind(one.parameters(), lr=0.01), batches(3))
    lr = torch.tensor(0.01, dtype=torch.float64)
    train(other, kind(other.parameters(), lr=lr), batches(3))
    assert_equal_models(one, other)


@KINDS
def test_one_gradient_is_alive_at_a_time_and_each_loss_is_passed_once(kind):
    dead = []

    class Watched(kind):
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


@KINDS
def test_on_a_device_no_step_reads_anything_back(kind):
    # A fake tensor has no values, so whatever would wait for one raises.
    fake = FakeTensorMode()
    with fake:
        model = TwoHeads()
    optimizer = kind(
        model.named_parameters(),
        losses=["left", "right", "both"],
        weight_decay=0.1,
        on_device=True,
        **OWN[kind],
    )
    with fake:
        for x in (torch.randn(8, 4, dtype=torch.float64) for _ in range(3)):
            optimizer.backward({**model(x), "both": sum(model(x).values())})
            optimizer.step()


@KINDS
def test_the_last_loss_frees_the_graph_unless_it_is_to_be_kept(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    losses = model(batches(1)[0])
    optimizer.backward(losses, retain_graph=True)
    optimizer.zero_grad()
    optimizer.backward(losses)
    with pytest.raises(RuntimeError, match="second time"):
        losses["right"].backward()


@KINDS
def test_two_backwards_without_a_step_are_refused(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    optimizer.backward(model(batches(1)[0]))
    with pytest.raises(RuntimeError, match=r"accumulate\(\)"):
        optimizer.backward(model(batches(1)[0]))


@KINDS
def test_a_step_with_gradients_from_elsewhere_is_refused(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    sum(model(batches(1)[0]).values()).backward()
    with pytest.raises(RuntimeError, match=rf"{kind.__name__}.backward\(losses\)"):
        optimizer.step()


@KINDS
def test_losses_that_reach_no_parameter_are_refused(kind):
    optimizer = kind([torch.ones(2).requires_grad_()])
    with pytest.raises(ValueError, match="No loss reaches a parameter"):
        optimizer.backward([torch.ones((), requires_grad=True) * 2])


@KINDS
def test_other_losses_than_at_the_first_step_are_refused(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    train(model, optimizer, batches(1))
    losses = model(batches(1)[0])
    with pytest.raises(ValueError, match=r"'middle'.*'left', 'right'"):
        optimizer.backward({"middle": losses["left"]})
    with pytest.raises(ValueError, match="Got 1 losses for the 2 names"):
        optimizer.backward([losses["left"]])


@KINDS
def test_a_first_step_that_is_refused_fixes_no_names(kind):
    model = TwoHeads()
    optimizer = kind(model.parameters())
    x = batches(1)[0]
    with pytest.raises(ValueError, match="'wrong' is not a scalar"):
        optimizer.backward({"wrong": model.trunk(x)})
    with pytest.raises(ValueError, match="and not their sum"):
        optimizer.backward(model(x)["left"])
    assert optimizer.names is None
    train(model, optimizer, [x])


@KINDS
def test_sparse_gradients_are_refused(kind):
    embedding = nn.Embedding(3, 2, sparse=True)
    optimizer = kind(embedding.parameters())
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.backward([embedding(torch.tensor([1])).sum()])


@KINDS
def test_a_group_that_is_refused_leaves_the_optimizer_as_it_was(kind):
    model = TwoHeads()
    optimizer = kind(model.trunk.parameters())
    with pytest.raises(ValueError, match="`lr` is -1"):
        optimizer.add_param_group({"params": model.left.parameters(), "lr": -1})
    assert len(optimizer.param_groups) == 1


@KINDS
def test_a_tensor_a_sequence_and_a_mapping_of_losses_are_the_same(kind):
    models = [TwoHeads(), TwoHeads(), TwoHeads()]
    forms = [
        dict,
        lambda losses: list(losses.values()),
        lambda losses: torch.stack([*losses.values()]),
    ]
    for model, form in zip(models, forms, strict=True):
        optimizer = kind(model.parameters())
        for x in batches(3):
            optimizer.backward(form(model(x)))
            optimizer.step()
    assert_equal_models(models[0], models[1])
    assert_equal_models(models[0], models[2])


@KINDS
def test_a_loss_without_a_graph_counts_as_absent_and_is_told_of_once(kind):
    weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
    found, expected = (kind([weight], losses=["a", "b", "c"]) for weight in weights)
    with pytest.warns(UserWarning, match="Loss 'b' has no graph"):
        found.backward({"a": weights[0].sum(), "b": 0.5, "c": weights[0].square().sum()})
    found.step()
    found.backward({"a": weights[0].sum(), "b": 0.5, "c": weights[0].square().sum()})
    found.step()
    for _ in range(2):
        expected.backward({"a": weights[1].sum(), "c": weights[1].square().sum()})
        expected.step()
    assert torch.equal(*weights)
    assert found.last.present == (0, 2)
    assert found.last.losses[1] == 0.5
    assert found.weights["b"] == 0


@KINDS
def test_a_loss_without_a_graph_is_an_error_where_that_is_asked_for(kind):
    weight = torch.ones(2, requires_grad=True)
    optimizer = kind([weight], graphless="raise")
    with pytest.raises(ValueError, match="has no graph"):
        optimizer.backward({"a": weight.sum(), "b": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="graphless"):
        kind([weight], graphless="skip")


@pytest.mark.parametrize("kind", [MTAdam, AutoBalance])
def test_a_closure_that_returns_nothing_leaves_the_step_that_waits(kind) -> None:
    weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
    for weight, closure in zip(weights, (None, lambda: None), strict=True):
        optimizer = kind([weight])
        optimizer.backward({"a": weight.sum(), "b": weight.square().sum()})
        assert optimizer.step(closure) is None
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], torch.ones(2))


@pytest.mark.parametrize("kind", [MTAdam, AutoBalance])
def test_a_closure_without_losses_and_without_a_step_is_refused(kind) -> None:
    optimizer = kind([torch.ones(2, requires_grad=True)])
    with pytest.raises(RuntimeError, match="The closure returned None, and no `backward` came"):
        optimizer.step(lambda: None)


def test_what_a_closure_computes_takes_the_place_of_a_step_that_waits() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = MTAdam([weight])
    optimizer.backward([1e3 * weight.prod(), weight.sum()])
    optimizer.step(lambda: [weight.sum(), weight.square().sum()])
    assert optimizer.last.losses.tolist() == [2.0, 2.0]
    assert not torch.equal(weight, torch.ones(2))


def set_data(model):
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def lay_out_anew(model):
    for parameter in model.parameters():
        parameter.data = parameter.data.t().contiguous().t()


def pass_through_a_vector(model):
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(vector, model.parameters())


def widen_and_narrow(model):
    model.double().float()


@KINDS
@BOTH
@ANYWHERE
@pytest.mark.parametrize("between", [False, True], ids=["after a step", "before a step"])
@pytest.mark.parametrize("move", [set_data, lay_out_anew, pass_through_a_vector, widen_and_narrow])
def test_parameters_whose_memory_is_another_train_on_there(kind, foreach, on_device, between, move):
    moved, still = TwoHeads(torch.float32), TwoHeads(torch.float32)
    options = {"lr": 0.01, "foreach": foreach, "on_device": on_device}
    ours, plain = (kind(model.parameters(), **options) for model in (moved, still))
    for x in batches(6, torch.float32):
        train(still, plain, [x])
        ours.zero_grad()
        ours.backward(moved(x))
        if between:
            move(moved)
        ours.step()
        if not between:
            move(moved)
    assert_equal_models(moved, still, rtol=1e-5, atol=1e-6)


@KINDS
@BOTH
def test_a_model_of_another_dtype_trains_on_as_one_that_the_state_was_loaded_for(kind, foreach):
    model = TwoHeads(torch.float32)
    optimizer = kind(model.parameters(), lr=0.01, foreach=foreach)
    train(model, optimizer, batches(3, torch.float32))
    model.double()
    other = copy.deepcopy(model)
    loaded = kind(other.parameters(), foreach=foreach)
    loaded.load_state_dict(optimizer.state_dict())
    train(model, optimizer, batches(3))
    train(other, loaded, batches(3))
    assert_equal_models(model, other)
