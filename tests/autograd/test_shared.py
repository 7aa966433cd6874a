from __future__ import annotations

import gc
import random
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.utils.checkpoint import checkpoint

from equipoise.autograd.graph import SharingError
from equipoise.autograd.shared import last_shared, leaves_below, parameters, representation
from tests.models import MultiHead, batch, compile_trunk, fresh_compiler


def random_losses(seed: int) -> list[torch.Tensor]:
    """Losses on a random graph: reused tensors, several outputs a node, skips into heads."""
    draw = random.Random(seed)
    pool = [nn.Parameter(torch.rand(4)) for _ in range(draw.randint(1, 4))]
    for _ in range(draw.randint(0, 14)):
        a, b = draw.choice(pool), draw.choice(pool[-3:])
        made = draw.choice([
            lambda a=a, b=b: [a + b],
            lambda a=a, b=b: [a * b],
            lambda a=a: [a.sin()],
            lambda a=a: [torch.cat(t) for t in [a.split(2)]],
            lambda a=a: list(a.unfold(0, 4, 4).unbind(0)),
            lambda a=a, b=b: list(torch.stack([a, b]).unbind(0)),
            lambda: [nn.Parameter(torch.rand(4)) * 2],
        ])  # fmt: skip
        pool.extend(made())
    return [draw.choice(pool[-4:]).sum() for _ in range(draw.randint(1, 4))]


def reached(node) -> set:
    """Every node at or below one, by the plainest search there is."""
    found, stack = set(), [node]
    while stack:
        node = stack.pop()
        if node is not None and node not in found:
            found.add(node)
            stack.extend(child for child, _ in node.next_functions)
    return found


def leaves_of(loss: torch.Tensor) -> set[torch.Tensor]:
    nodes = reached(get_gradient_edge(loss).node)
    return {node.variable for node in nodes if hasattr(node, "variable")}


@given(st.integers(0, 2**32))
def test_parameters_are_told_apart_as_by_one_search_a_loss(seed) -> None:
    losses = random_losses(seed)
    found = parameters(losses)
    by_loss = [leaves_of(loss) for loss in losses]
    counts = {leaf: sum(leaf in leaves for leaves in by_loss) for leaf in set().union(*by_loss)}
    needed = min(2, len(losses))
    assert set(found.shared) == {leaf for leaf, count in counts.items() if count >= needed}
    for leaves, own in zip(by_loss, found.own, strict=True):
        assert set(own) == {leaf for leaf in leaves if counts[leaf] < needed}
    assert set(found.everything) == set(counts)


def without(loss: torch.Tensor, cut: set) -> set:
    """The nodes that a loss reaches on paths that avoid the cut edges."""
    root = get_gradient_edge(loss)
    seen, stack = set(), [(root.node, root.output_nr)]
    while stack:
        edge = stack.pop()
        if edge[0] is None or edge in cut or edge in seen:
            continue
        seen.add(edge)
        stack.extend(edge[0].next_functions)
    return {node for node, _ in seen}


@given(st.integers(0, 2**32))
def test_the_representation_is_a_cut_that_all_losses_reach_and_none_of_it_lies_above_another(
    seed,
) -> None:
    losses = random_losses(seed)
    shared_by_all = set.intersection(*map(leaves_of, losses))
    if not shared_by_all:
        with pytest.raises(SharingError, match="no shared representation"):
            representation(losses)
        return
    edges = representation(losses)
    for edge in edges:
        for loss in losses:
            assert edge.node in reached(get_gradient_edge(loss).node)
        others = {other.node for other in edges} - {edge.node}
        assert not others & reached(edge.node)
    cut = {(edge.node, edge.output_nr) for edge in edges}
    below = {node for edge in edges for node in reached(edge.node)}
    for loss in losses:
        around = {node for node in without(loss, cut) if not hasattr(node, "variable")}
        assert not around & below


def test_heads_part_at_the_output_of_the_trunk() -> None:
    model = MultiHead(5)
    losses = model(batch())
    (edge,) = representation(losses)
    assert edge.node.name() == "TanhBackward0"
    assert set(last_shared(losses)) == set(model.trunk[2].parameters())
    assert set(parameters(losses).shared) == set(model.trunk.parameters())


def test_losses_on_the_same_output_part_at_it() -> None:
    layer = nn.Linear(4, 3)
    output = layer(torch.rand(2, 4))
    losses = [output.mean(), output.square().mean(), output.abs().mean()]
    (edge,) = representation(losses)
    assert edge.node is output.grad_fn
    assert set(last_shared(losses)) == set(layer.parameters())


@pytest.mark.parametrize("part", ["unbind", "chunk", "split"])
def test_where_losses_leave_one_node_by_different_outputs_the_walk_goes_through_it(part) -> None:
    layer = nn.Linear(4, 2)
    output = layer(torch.rand(3, 4))
    pieces = {
        "unbind": lambda: output.unbind(1),
        "chunk": lambda: output.chunk(2, dim=1),
        "split": lambda: output.split(1, dim=1),
    }[part]()
    (edge,) = representation([piece.mean() for piece in pieces])
    assert edge.node is output.grad_fn


def test_losses_stacked_into_one_tensor_are_still_told_apart() -> None:
    model = MultiHead(3)
    stacked = torch.stack(model(batch()))
    found = parameters(stacked.unbind())
    assert set(found.shared) == set(model.trunk.parameters())
    assert [set(own) for own in found.own] == [set(head.parameters()) for head in model.heads]


def test_a_skip_connection_into_every_head_moves_the_representation_below_it() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    low = first(torch.rand(2, 4)).tanh()
    high = second(low).tanh()
    losses = [(high + low).sum(), (high * low).sum()]
    nodes = {edge.node for edge in representation(losses)}
    assert low.grad_fn in nodes
    assert high.grad_fn not in nodes
    assert set(last_shared(losses)) == set(second.parameters())


def test_tied_weights_are_the_last_shared_layer_that_the_heads_use() -> None:
    embedding, trunk = nn.Embedding(7, 4), nn.Linear(4, 4)
    hidden = trunk(embedding(torch.tensor([1, 2, 3]))).tanh()
    logits = hidden @ embedding.weight.T
    losses = [(hidden @ embedding.weight.T).logsumexp(1).mean(), logits.square().mean()]
    assert set(parameters(losses).shared) == {embedding.weight, *trunk.parameters()}
    assert last_shared(losses) == (embedding.weight,)


def test_a_normalisation_s_scales_are_not_taken_for_the_last_shared_layer() -> None:
    linear, norm = nn.Linear(4, 4), nn.LayerNorm(4)
    output = norm(linear(torch.rand(2, 4)))
    assert set(last_shared([output.sum(), output.square().sum()])) == set(linear.parameters())


def test_a_weight_computed_from_parameters_counts_as_the_layer_s() -> None:
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    output = linear(torch.rand(2, 4)).tanh()
    assert set(last_shared([output.sum(), output.square().sum()])) == set(linear.parameters())


def test_a_trunk_of_plain_tensors_is_found_as_well() -> None:
    theta = torch.rand(3, requires_grad=True)
    losses = [(theta * 2).sum(), theta.square().sum()]
    assert parameters(losses).shared == (theta,)
    assert last_shared(losses) == (theta,)


def test_coordinates_that_need_a_gradient_are_inputs_not_parameters() -> None:
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    x = torch.rand(5, 1, requires_grad=True)
    u = net(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    losses = [(slope - u).square().mean(), u[0].square().mean()]
    found = parameters(losses)
    assert found.inputs == (x,)
    assert set(found.shared) == set(net.parameters())


def test_a_custom_function_is_walked_through() -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    layer = nn.Linear(4, 3)
    output = Twice.apply(layer(torch.rand(2, 4)))
    assert set(last_shared([output.sum(), output.tanh().sum()])) == set(layer.parameters())


def test_a_compiled_trunk_is_walked_through() -> None:
    with fresh_compiler():
        model = MultiHead(2)
        compile_trunk(model)
        losses = model(batch())
        assert set(parameters(losses).shared) == set(model.trunk.parameters())
        assert representation(losses)


def test_checkpointing_without_reentrance_shows_all_parameters() -> None:
    model = MultiHead(2)
    hidden = checkpoint(model.trunk, batch().requires_grad_(), use_reentrant=False)
    losses = [head(hidden).mean() for head in model.heads]
    assert set(parameters(losses).shared) == set(model.trunk.parameters())


def test_reentrant_checkpointing_is_refused_with_what_to_write() -> None:
    model = MultiHead(2)
    hidden = checkpoint(model.trunk, batch().requires_grad_(), use_reentrant=True)
    losses = [head(hidden).mean() for head in model.heads]
    for search in (parameters, last_shared):
        with pytest.raises(SharingError, match="use_reentrant=False"):
            search(losses)
    assert representation(losses)  # lies above what is hidden


def test_losses_that_share_nothing_are_told_so() -> None:
    losses = [nn.Linear(2, 1)(torch.rand(1, 2)).sum() for _ in range(2)]
    for search in (representation, last_shared):
        with pytest.raises(SharingError, match="No two of '0', '1' share anything"):
            search(losses)


def test_a_loss_that_shares_nothing_with_the_others_is_named() -> None:
    losses = [*MultiHead(2)(batch()), nn.Linear(2, 1)(torch.rand(1, 2)).sum()]
    with pytest.raises(SharingError, match="with the others by 'c'; leave it out"):
        last_shared(losses, "abc")


def test_losses_that_share_only_pairwise_are_pointed_to_shared() -> None:
    a, b, c = (nn.Linear(2, 2) for _ in range(3))
    x = torch.rand(1, 2)
    losses = [(a(x) + b(x)).sum(), (b(x) + c(x)).sum(), (c(x) + a(x)).sum()]
    with pytest.raises(SharingError, match="pairwise only: use wrt='shared'"):
        representation(losses)
    assert len(parameters(losses).shared) == 6


def test_leaves_below_a_tensor_are_those_whose_gradient_flows_through_it() -> None:
    model = MultiHead(2)
    hidden = model.trunk(batch())
    assert set(leaves_below([hidden])) == set(model.trunk.parameters())


def test_nothing_of_the_graph_is_kept_alive() -> None:
    class Saved: ...

    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.saved = Saved()
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    losses = [Identity.apply(loss) for loss in MultiHead(3)(batch())]
    saved = weakref.ref(losses[0].grad_fn.saved)
    found = parameters(losses), last_shared(losses)
    assert saved() is not None
    del losses
    gc.collect()
    assert saved() is None
    assert found


def test_the_last_shared_layer_of_a_residual_is_no_input_and_the_same_each_time() -> None:
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    found = set()
    for _ in range(5):
        x = torch.rand(7, 1, requires_grad=True)
        u = net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        found.add(last_shared([(bend + u).square().mean(), u[0].square().sum()]))
    (layer,) = found
    assert all(isinstance(parameter, nn.Parameter) for parameter in layer)


TABLES = {
    "embedding": lambda table, index: nn.functional.embedding(index, table),
    "indexing": lambda table, index: table[index],
    "index_select": lambda table, index: table.index_select(0, index),
    "a bag": lambda table, index: nn.functional.embedding_bag(index[None], table),
    "gather": lambda table, index: table.gather(0, index[:, None].expand(-1, 4)),
    "a query for each sample": lambda table, index: table[:1].expand(len(index), -1),
    "repeated": lambda table, index: table[:1].repeat(len(index), 1),
}


@pytest.mark.parametrize("look_up", TABLES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_last_shared_layer_above_an_embedding_is_the_layer_and_not_the_table(
    look_up, depth
) -> None:
    table = nn.Parameter(torch.rand(9, 4))
    layers = [nn.Linear(4, 4) for _ in range(depth)]
    hidden = TABLES[look_up](table, torch.tensor([1, 2, 5]))
    for layer in layers:
        hidden = layer(hidden).tanh()
    losses = [hidden.sum(), hidden.square().sum()]
    assert set(last_shared(losses)) == set(layers[-1].parameters())
    assert set(parameters(losses).shared) == {table, *nn.ModuleList(layers).parameters()}


def test_the_last_shared_layer_of_interactions_of_embeddings_is_the_layer() -> None:
    users, items, layer = nn.Embedding(7, 4), nn.Embedding(9, 4), nn.Linear(8, 4)
    index = torch.tensor([1, 2, 3])
    hidden = layer(torch.cat([users(index), items(index)], dim=1)).relu()
    assert set(last_shared([hidden.sum(), hidden.square().sum()])) == set(layer.parameters())


def test_where_an_embedding_is_all_that_is_shared_its_table_is_the_layer() -> None:
    table, index = nn.Embedding(7, 4), torch.tensor([1, 2, 3])
    hidden = table(index)
    heads = [nn.Linear(4, 1), nn.Linear(4, 1)]
    assert last_shared([head(hidden).sum() for head in heads]) == (table.weight,)
