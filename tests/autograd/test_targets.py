from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.autograd.graph import SharingError
from equipoise.autograd.targets import like, watch
from tests.models import MultiHead, batch


def test_shared_parameters_are_all_that_is_needed_to_write_gradients() -> None:
    model = MultiHead(2)
    watched = watch(model(batch()), "shared")
    assert watched.leaves is not None
    assert set(watched.targets) == set(model.trunk.parameters())
    assert [set(own) for own in watched.leaves.own] == [set(h.parameters()) for h in model.heads]


@pytest.mark.parametrize("wrt", ["module", "generator"])
def test_a_module_or_parameters_that_hold_all_that_is_shared_count_as_shared(wrt) -> None:
    model = MultiHead(2)
    named = model.trunk if wrt == "module" else model.trunk.parameters()
    watched = watch(model(batch()), named)
    assert watched.leaves is not None
    assert watched.targets == tuple(model.trunk.parameters())


def test_a_part_of_the_trunk_is_watched_but_does_not_suffice() -> None:
    model = MultiHead(2)
    watched = watch(model(batch()), model.trunk[2].weight)
    assert watched.targets == (model.trunk[2].weight,)
    assert watched.sizes == [25]
    assert watched.leaves is None


def test_parameters_of_heads_named_besides_are_watched_and_not_own() -> None:
    model = MultiHead(2)
    watched = watch(model(batch()), model)
    assert watched.leaves is not None
    assert watched.leaves.own == ((), ())


def test_sizes_at_the_representation_are_those_of_the_tensor_there() -> None:
    watched = watch(MultiHead(2)(batch(6)), "representation")
    assert watched.sizes == [30]
    assert like(watched.targets[0], torch.zeros(30)).shape == (6, 5)
    assert like(watched.targets[0], torch.zeros(30)).dtype == torch.float64


def test_a_tensor_of_the_graph_is_watched_as_it_is() -> None:
    model = MultiHead(2)
    hidden = model.trunk(batch())
    watched = watch([head(hidden).sum() for head in model.heads], hidden)
    assert watched.targets == (hidden,)
    assert watched.leaves is None


@pytest.mark.parametrize("wrt", ["last", 3.0, [], [3]])
def test_what_cannot_be_watched_is_refused(wrt) -> None:
    with pytest.raises(TypeError, match="wrt"):
        watch(MultiHead(2)(batch()), wrt)


def test_parameters_that_no_loss_reaches_are_refused() -> None:
    with pytest.raises(SharingError, match="No loss reaches what `wrt` names"):
        watch(MultiHead(2)(batch()), nn.Linear(2, 2))


def test_losses_without_shared_parameters_are_refused() -> None:
    losses = [nn.Linear(2, 1)(torch.rand(1, 2)).sum() for _ in range(2)]
    with pytest.raises(SharingError, match="losses '0', '1' share no parameter"):
        watch(losses, "shared")
