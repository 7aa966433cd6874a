from __future__ import annotations

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.autograd.graph import SharingError
from equipoise.autograd.shared import last_shared, parameters, representation
from tests.methods import NAMES, make
from tests.models import MultiHead, batch, flat_grad


def filled(losses):
    vector = torch.zeros(len(losses), dtype=losses[0].dtype)
    for i, loss in enumerate(losses):
        vector[i] = loss
    return vector


def added_in_place(losses):
    vector = torch.zeros(len(losses), dtype=losses[0].dtype)
    for i, loss in enumerate(losses):
        vector[i] += loss
    for i, gain in enumerate((7.5, 0.5, 1.5)):
        vector[i] *= gain
    return vector * 16


GAINS = torch.tensor([7.5, 0.5, 1.5], dtype=torch.float64)
VECTORS = {
    "stacked": torch.stack,
    "stacked times gains": lambda losses: torch.stack(losses) * GAINS,
    "stacked, squared, summed with a constant": lambda losses: torch.stack(losses) ** 2 + GAINS,
    "concatenated": lambda losses: torch.cat([loss[None] for loss in losses]),
    "concatenated, divided": lambda losses: torch.cat([x.view(1) for x in losses]) / 4,
    "in two parts": lambda x: torch.cat([torch.stack(x[:2]) * 2, x[2].reshape(1)]),
    "filled in place": filled,
    "added in place, with gains": added_in_place,
    "in single precision and back": lambda losses: torch.stack(losses).float().double(),
}
TAKEN = {
    "whole": lambda vector: vector,
    "unbound": lambda vector: list(vector.unbind()),
    "one by one": lambda vector: [vector[i] for i in range(3)],
    "with factors": lambda vector: [2 * vector[0], vector[1] / 3, vector[2].neg()],
    "split": lambda vector: [part.squeeze() for part in vector.split(1)],
}


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("made", VECTORS)
def test_what_is_shared_is_found_through_a_vector_of_losses(made, taken) -> None:
    model, x = MultiHead(3), batch()
    losses = TAKEN[taken](VECTORS[made](model(x)))
    losses = list(losses.unbind()) if isinstance(losses, torch.Tensor) else losses
    found = parameters(losses)
    assert set(found.shared) == set(model.trunk.parameters())
    assert [set(own) for own in found.own] == [set(head.parameters()) for head in model.heads]
    (edge,) = representation(losses)
    assert edge.node.name() == "TanhBackward0"
    assert set(last_shared(losses)) == set(model.trunk[2].parameters())


@pytest.mark.parametrize("made", ["filled in place", "stacked times gains", "concatenated"])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_takes_a_vector_for_the_losses_in_it(name, made) -> None:
    model, x = MultiHead(3), batch()
    torch.manual_seed(0)
    one = make(name)
    torch.manual_seed(0)
    other = make(name)
    for _ in range(2):
        model.zero_grad()
        record = one.backward(VECTORS[made](model(x)))
        found = flat_grad(list(model.parameters()))
        model.zero_grad()
        gains = GAINS.tolist() if "gains" in made else [1.0, 1.0, 1.0]
        expected = other.backward([g * loss for g, loss in zip(gains, model(x), strict=True)])
        torch.testing.assert_close(record.weights, expected.weights)
        torch.testing.assert_close(found, flat_grad(list(model.parameters())))


@pytest.mark.parametrize("reduced", ["mean", "sum"])
def test_losses_reduced_from_one_matrix_do_not_meet_in_their_vector(reduced) -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    hidden, target = net[:2](torch.rand(8, 4)), torch.rand(8, 3)
    losses = getattr((net[2](hidden) - target).square(), reduced)(0).unbind()
    (edge,) = representation(losses)
    assert edge.node is hidden.grad_fn  # each has a column of the matrix for itself
    assert set(last_shared(losses)) == set(net[2].parameters())


def test_a_matrix_with_nothing_below_it_is_the_representation_itself() -> None:
    prediction = nn.Linear(4, 3)(torch.rand(8, 4))
    (edge,) = representation(prediction.square().mean(0).unbind())
    assert edge.node is prediction.grad_fn


def test_heads_put_together_into_a_matrix_are_own_to_their_losses() -> None:
    model = MultiHead(3)
    hidden = model.trunk(batch())
    prediction = torch.cat([head(hidden) for head in model.heads], dim=1)
    losses = (prediction - torch.rand(6, 3)).square().mean(0)
    found = parameters(losses.unbind())
    assert set(found.shared) == set(model.trunk.parameters())
    assert [set(own) for own in found.own] == [set(head.parameters()) for head in model.heads]
    record = eq.IMTLG(3).backward(losses)
    assert (record.weights - 1 / 3).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_a_scripted_model_in_which_losses_part_is_refused_as_a_compiled_one() -> None:
    class Losses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.trunk(x).tanh()
            return self.a(hidden), self.b(hidden)

    model = torch.jit.script(Losses())
    for _ in range(3):  # TorchScript fuses from its second call on
        a, b = model(batch(dtype=torch.float32))
    for wrt in ("shared", "last_shared", "representation"):
        with pytest.raises(SharingError, match=r"scripted function.*Pass wrt="):
            eq.UPGrad(2, wrt=wrt).backward([a.mean(), b.mean()])
    record = eq.UPGrad(2, wrt=model.trunk).backward([a.mean(), b.mean()])
    assert record.weights.isfinite().all()
