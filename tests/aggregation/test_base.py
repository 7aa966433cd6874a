from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch

import equipoise as eq
from equipoise.aggregation.base import Aggregation
from equipoise.benchmarks.bench.memory import peak_memory
from equipoise.gradients.meter import Meter
from tests.models import MultiHead, batch, flat_grad, jacobian


class Inverse(Aggregation):
    """A stand-in that looks at the Gramian: w_i = 1 / (1 + |g_i|^2)."""

    def _weigh(self, values, gradients):
        return 1 / (1 + gradients.gram().diagonal())


class InverseNorm(Aggregation):
    """The same weights from norms alone."""

    looks_at = "norms"

    def _weigh(self, values, gradients):
        return 1 / (1 + gradients.norms() ** 2)


class Largest(Aggregation):
    """A stand-in that is no weighting: per coordinate, the entry of largest absolute value."""

    looks_at = "gradients"
    weighting = False

    def _combine(self, values, gradients):
        rows = gradients.matrix()
        return rows.gather(0, rows.abs().argmax(0, keepdim=True))[0]


def expected(model, x, watched=None, heads="weighted"):
    """The slow way: rows, weights, then each parameter's gradient on its own."""
    losses = model(x)
    watched = list(model.trunk.parameters()) if watched is None else watched
    weights = 1 / (1 + jacobian(losses, watched).square().sum(1))
    everything = list(model.parameters())
    rows = jacobian(losses, everything)
    combined = weights @ rows
    if heads == "plain":
        trunk = sum(p.numel() for p in model.trunk.parameters())
        combined[trunk:] = rows.sum(0)[trunk:]
    return weights, combined


@pytest.mark.parametrize("heads", ["weighted", "plain"])
@pytest.mark.parametrize("make", [Inverse, InverseNorm])
@pytest.mark.parametrize(
    "measuring",
    [
        None,
        eq.Measuring(rows=2),
        eq.Measuring(rows=3),
        eq.Measuring(chunk=2),
        eq.Measuring(dtype=torch.float64),
    ],
)
def test_every_way_of_measuring_gives_the_weights_and_gradients_of_the_slow_way(
    make, heads, measuring
) -> None:
    model, x = MultiHead(4), batch()
    weights, gradient = expected(model, x, heads=heads)
    record = make(4, heads=heads, measuring=measuring).backward(model(x))
    torch.testing.assert_close(record.weights, weights)
    torch.testing.assert_close(flat_grad(list(model.parameters())), gradient)


@pytest.mark.parametrize("make", [Inverse, InverseNorm])
@pytest.mark.parametrize(
    "watch", ["shared", "trunk", "last_shared", "layer", "weight", "generator"]
)
def test_wherever_gradients_are_watched_the_whole_model_gets_its_weighted_gradient(
    make, watch
) -> None:
    model, x = MultiHead(3), batch()
    wrt = {
        "trunk": model.trunk,
        "layer": model.trunk[0],
        "weight": model.trunk[2].weight,
        "generator": model.trunk.parameters(),
    }.get(watch, watch)
    watched = {
        "last_shared": list(model.trunk[2].parameters()),
        "layer": list(model.trunk[0].parameters()),
        "weight": [model.trunk[2].weight],
    }.get(watch)
    weights, gradient = expected(model, x, watched)
    record = make(3).backward(model(x), wrt=wrt)
    torch.testing.assert_close(record.weights, weights)
    torch.testing.assert_close(flat_grad(list(model.parameters())), gradient)


@pytest.mark.parametrize("wrt", ["representation", "tensor"])
def test_at_the_representation_the_gradients_of_the_shared_tensor_are_measured(wrt) -> None:
    model, x = MultiHead(3), batch()
    hidden = model.trunk(x)
    losses = [(i + 1) * (head(hidden) - i).square().mean() for i, head in enumerate(model.heads)]
    rows = jacobian(losses, [hidden])
    record = Inverse(3).backward(losses, wrt=hidden if wrt == "tensor" else wrt)
    torch.testing.assert_close(record.weights, 1 / (1 + rows.square().sum(1)))
    found = flat_grad(list(model.parameters()))
    everything = jacobian(model(x), list(model.parameters()))
    torch.testing.assert_close(found, record.weights @ everything)


@pytest.mark.parametrize("wrt", ["shared", "representation"])
@pytest.mark.parametrize("through", ["plain", "callable", "scaler"])
def test_a_combination_reaches_the_trunk_and_heads_get_the_plain_sum(wrt, through) -> None:
    model, x = MultiHead(3, dtype=torch.float32), batch(dtype=torch.float32)
    hidden = model.trunk(x)
    losses = [(i + 1) * (head(hidden) - i).square().mean() for i, head in enumerate(model.heads)]
    trunk, heads = list(model.trunk.parameters()), list(model.heads.parameters())
    target = trunk if wrt == "shared" else [hidden]
    rows = jacobian(losses, target)
    combined = rows.gather(0, rows.abs().argmax(0, keepdim=True))[0]
    if wrt == "representation":
        found = torch.autograd.grad(hidden, trunk, combined.view_as(hidden), retain_graph=True)
        combined = torch.cat([g.flatten() for g in found])
    expected_heads = jacobian(losses, heads).sum(0)
    options = {
        "plain": {},
        "callable": {"backward": lambda loss: (loss * 8).backward()},
        "scaler": {"scaler": torch.amp.GradScaler("cpu", init_scale=8.0)},
    }[through]
    Largest(3, wrt=wrt).backward(losses, **options)
    factor = 1 if through == "plain" else 8
    torch.testing.assert_close(flat_grad(trunk), combined * factor)
    torch.testing.assert_close(flat_grad(heads), expected_heads * factor)


@pytest.mark.parametrize("make", [Inverse, InverseNorm])
@pytest.mark.parametrize("heads", ["weighted", "plain"])
@pytest.mark.parametrize("through", ["callable", "scaler"])
def test_scaled_passes_give_unscaled_weights_and_scaled_gradients(make, heads, through) -> None:
    model, x = MultiHead(3, dtype=torch.float32), batch(dtype=torch.float32)
    plain = make(3, heads=heads).backward(model(x))
    gradient = flat_grad(list(model.parameters()))
    model.zero_grad()
    options = {
        "callable": {"backward": lambda loss: (loss * 8).backward()},
        "scaler": {"scaler": torch.amp.GradScaler("cpu", init_scale=8.0)},
    }[through]
    record = make(3, heads=heads).backward(model(x), **options)
    torch.testing.assert_close(record.weights, plain.weights)
    torch.testing.assert_close(flat_grad(list(model.parameters())), gradient * 8)


class PassCounter(torch.autograd.Function):
    """Sits on the trunk's output and counts the passes that go through it."""

    count = 0

    @staticmethod
    def forward(ctx, hidden):
        return hidden.clone()

    @staticmethod
    def backward(ctx, grad):
        PassCounter.count += 1
        return grad


@pytest.mark.parametrize(
    ("make", "options", "passes"),
    [
        (Inverse, {}, 4),
        (InverseNorm, {}, 4),
        (InverseNorm, {"measuring": eq.Measuring(rows=2)}, 5),
        (Inverse, {"measuring": eq.Measuring(rows=3)}, 4 + 2 + 1),
        (Inverse, {"wrt": "last_shared"}, 5),
        (Inverse, {"wrt": "representation"}, 1),
        (Largest, {}, 4),
    ],
)
def test_as_many_passes_go_through_the_trunk_as_stated(make, options, passes) -> None:
    model, x = MultiHead(4), batch()
    hidden = PassCounter.apply(model.trunk(x)) if options.get("wrt") != "representation" else None
    if hidden is None:
        model.trunk.insert(1, CountingIdentity())
        hidden = model.trunk(x)
    PassCounter.count = 0
    make(4, **options).backward([head(hidden).square().mean() for head in model.heads])
    assert PassCounter.count == passes


class CountingIdentity(torch.nn.Module):
    def forward(self, hidden):
        return PassCounter.apply(hidden)


def test_on_steps_in_between_exactly_one_pass_runs() -> None:
    model, x = MultiHead(4), batch()
    balancer = Inverse(4, every=3)
    counts = []
    for _ in range(4):
        hidden = PassCounter.apply(model.trunk(x))
        PassCounter.count = 0
        balancer.backward([head(hidden).square().mean() for head in model.heads])
        counts.append(PassCounter.count)
    assert counts == [4, 1, 1, 4]


@pytest.mark.parametrize("make", [Inverse, InverseNorm, Largest])
def test_the_last_pass_frees_the_graph(make) -> None:
    class Saved: ...

    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(ctx, hidden):
            ctx.saved = Saved()
            ctx.save_for_backward(hidden)
            return hidden.clone()

        @staticmethod
        def backward(ctx, grad):
            (hidden,) = ctx.saved_tensors
            return grad + 0 * hidden

    model = MultiHead(3)
    losses = [head(Identity.apply(model.trunk(batch()))).mean() for head in model.heads[:1]]
    hidden = Identity.apply(model.trunk(batch()))
    saved = weakref.ref(hidden.grad_fn.saved)
    losses = [head(hidden).square().mean() for head in model.heads]
    del hidden
    balancer = make(3)
    balancer.backward(losses)
    with pytest.raises(RuntimeError, match="second time"):
        losses[-1].backward()
    del losses
    gc.collect()
    assert saved() is None


def test_tied_weights_cannot_be_combined_around_the_representation() -> None:
    embedding, head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 1)
    hidden = embedding(torch.tensor([0, 3])).tanh()
    losses = [(hidden @ embedding.weight.T).square().mean(), head(hidden).sum()]
    with pytest.raises(eq.SharingError, match="Write wrt='shared'"):
        Largest(2, wrt=hidden).backward(losses)


def test_inputs_that_need_a_gradient_get_theirs_and_are_not_watched() -> None:
    model = MultiHead(2)
    x = batch().requires_grad_()
    weights, gradient = expected(model, x)
    record = Inverse(2).backward(model(x))
    torch.testing.assert_close(record.weights, weights)
    torch.testing.assert_close(flat_grad(list(model.parameters())), gradient)
    rows = jacobian(model(x), [x])
    torch.testing.assert_close(x.grad.flatten(), weights @ rows)


def test_with_one_loss_left_the_layer_of_all_of_them_is_still_watched() -> None:
    model, x = MultiHead(3), batch()
    balancer = InverseNorm(["a", "b", "c"], wrt="last_shared")
    balancer.backward(dict(zip("abc", model(x), strict=True)))
    model.zero_grad()
    losses = model(x)
    layer = jacobian(losses[:1], list(model.trunk[2].parameters()))
    record = balancer.backward({"a": losses[0]})
    torch.testing.assert_close(record.weights[0], 1 / (1 + layer.square().sum()))


def test_what_is_no_weighting_says_which_call_to_make() -> None:
    balancer, losses = Largest(2), MultiHead(2)(batch())
    with pytest.raises(TypeError, match="call `backward"):
        balancer(losses)
    with pytest.raises(TypeError, match="call `combine`"):
        balancer.weigh(torch.ones(2), eq.Gradients(torch.ones(2, 3)))
    with pytest.raises(ValueError, match="leave `every` at 1"):
        Largest(2, every=2)


def test_a_frozen_combination_still_combines() -> None:
    model, x = MultiHead(2), batch()
    balancer = Largest(2)
    balancer.backward(model(x))
    gradient = flat_grad(list(model.parameters()))
    model.zero_grad()
    with balancer.frozen():
        balancer.backward(model(x))
    assert torch.equal(flat_grad(list(model.parameters())), gradient)


def test_the_record_holds_norms_and_cosines_where_they_were_measured() -> None:
    model, x = MultiHead(2), batch()
    rows = jacobian(model(x), list(model.trunk.parameters()))
    record = Inverse(2).backward(model(x))
    torch.testing.assert_close(record.norms, rows.norm(dim=1))
    torch.testing.assert_close(record.cosines, torch.corrcoef(rows) * 0 + cosine(rows))
    assert InverseNorm(2).backward(model(x)).cosines is None
    assert InverseNorm(2, every=2).backward(model(x)).norms is not None


def cosine(rows: torch.Tensor) -> torch.Tensor:
    unit = rows / rows.norm(dim=1, keepdim=True)
    return unit @ unit.T


def test_rows_are_laid_into_the_same_memory_at_every_step() -> None:
    model, balancer = MultiHead(2), Inverse(2)
    balancer.backward(model(batch()))
    place = balancer._meter._rows.data_ptr()
    balancer.backward(model(batch()))
    assert balancer._meter._rows.data_ptr() == place


def test_copies_and_pickles_keep_neither_rows_nor_parameters() -> None:
    balancer = Inverse(2)
    balancer.backward(MultiHead(2)(batch()))
    again = copy.deepcopy(balancer)
    assert again._meter._rows is None
    assert again._meter._watch._last_shared == ()
    thawed = pickle.loads(pickle.dumps(balancer._meter))  # noqa: S301
    assert isinstance(thawed, Meter)
    assert thawed._rows is None


def test_unknown_ways_with_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="'both'; write 'weighted' or 'plain'"):
        Inverse(2, heads="both")


WIDE_METHODS = [
    eq.DBMTL,
    eq.ExcessMTL,
    eq.GradDrop,
    eq.GradVac,
    eq.MetaBalance,
    eq.MoCo,
    eq.MoDo,
    eq.MomentumConFIG,
    eq.SDMGrad,
    eq.TrimmedMean,
]


@pytest.mark.parametrize("make", WIDE_METHODS)
def test_a_step_takes_no_second_copy_of_the_rows_and_at_most_three_of_one(make) -> None:
    """Two as wide as a gradient, and one for blocks; state is there since the first step."""
    rows = torch.randn(5, 1 << 22)
    balancer, priorities = make(5), torch.full((5,), 0.5)
    balancer.combine(torch.ones(5), eq.Gradients(rows).scaled(priorities))

    def step() -> None:
        balancer.combine(torch.ones(5), eq.Gradients(rows).scaled(priorities))

    row = rows[0].numel() * rows.element_size()
    assert peak_memory(step, torch.device("cpu")) <= 3 * row
