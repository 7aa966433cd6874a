"""Losses of a tensor subclass are balanced as plain ones, whatever looks at them.

The subclass is that of libraries whose tensors carry labels: its constructor makes an attribute
that results of operations lack, and its methods read it.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import equipoise as eq
from equipoise.losses import plain
from tests.methods import LOSSES, NAMES, make, tensors_of
from tests.models import MultiHead, batch


class Labelled(Tensor):
    def __init__(self, _data):
        super().__init__()
        self.labels = ("x",)

    def _keeping(self, made):
        made.labels = self.labels
        return made

    def clone(self):
        return self._keeping(super().clone())

    def detach(self):
        return self._keeping(super().detach())

    def to(self, *args, **kwargs):
        return self._keeping(super().to(*args, **kwargs))

    def reshape(self, *shape):
        return self._keeping(super().reshape(*shape))

    def __mul__(self, other):
        return self._keeping(super().__mul__(other))


class WithLabels(MultiHead):
    """Computes with labelled points, which makes each of its losses one of them."""

    def forward(self, x):
        return super().forward(x if isinstance(x, Labelled) else Labelled(x))


def pair():
    torch.manual_seed(0)
    labelled = WithLabels(3)
    return labelled, copy.deepcopy(labelled), [batch() for _ in range(3)]


def losses_of(model, x):
    return [plain(loss) for loss in model(x)]


def assert_same_grad(one, other):
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert type(mine.grad) is Tensor
        assert torch.equal(mine.grad, theirs.grad)


def test_the_losses_are_of_a_subclass_that_balancing_would_trip_over() -> None:
    labelled, _, (x, *_) = pair()
    loss = labelled(x)[0]
    assert isinstance(loss, Labelled)
    with pytest.raises(AttributeError, match="labels"):
        loss.detach()


@pytest.mark.parametrize("name", NAMES)
def test_every_method_gives_the_gradient_of_plain_losses(name) -> None:
    labelled, unlabelled, data = pair()
    torch.manual_seed(1)
    one = make(name)
    other = copy.deepcopy(one)
    for x in data:
        one.backward(labelled(x))
        other.backward(losses_of(unlabelled, x))
        assert_same_grad(labelled, unlabelled)
    for tensor in (one.last.losses, one.last.weights, one.last.total, *tensors_of(one).values()):
        assert type(tensor) is Tensor


def primary():
    return eq.Primary(eq.UPGrad(LOSSES), "a")


@pytest.mark.parametrize(
    "wrapped",
    [primary, lambda: eq.Shares(primary(), [0.5, 0.3, 0.2]), lambda: eq.Behind(eq.UPGrad(LOSSES))],
)
def test_wrappers_do(wrapped) -> None:
    labelled, unlabelled, data = pair()
    one, other = wrapped(), wrapped()
    for x in data:
        one.backward(labelled(x))
        other.backward(losses_of(unlabelled, x))
    assert_same_grad(labelled, unlabelled)


@pytest.mark.parametrize("kind", [eq.MTAdam, eq.AutoBalance])
def test_optimizers_do(kind) -> None:
    labelled, unlabelled, data = pair()
    one, other = kind(labelled.parameters()), kind(unlabelled.parameters())
    for x in data:
        one.backward(labelled(x))
        one.step()
        other.backward(losses_of(unlabelled, x))
        other.step()
    for mine, theirs in zip(labelled.parameters(), unlabelled.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_vector_of_losses_is_taken_apart_as_a_plain_one() -> None:
    labelled, unlabelled, (x, *_) = pair()
    gains = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    one, other = eq.UPGrad(3), eq.UPGrad(3)
    stacked = torch.stack(labelled(x)).as_subclass(Labelled)
    assert isinstance(stacked, Labelled)
    one.backward(torch.mul(stacked, gains))
    other.backward(torch.stack(losses_of(unlabelled, x)) * gains)
    assert_same_grad(labelled, unlabelled)
    labelled.zero_grad()
    eq.UPGrad(3).backward(list(torch.mul(torch.stack(labelled(x)), gains)))
    assert_same_grad(labelled, unlabelled)


def test_measuring_and_the_diagnosis_do() -> None:
    labelled, unlabelled, (x, *_) = pair()
    found = eq.measure(labelled(x)).matrix()
    assert torch.equal(found, eq.measure(losses_of(unlabelled, x)).matrix())
    one, other = eq.Diagnosis(LOSSES), eq.Diagnosis(LOSSES)
    one.observe(labelled(x))
    other.observe(losses_of(unlabelled, x))
    assert one.to_dict() == other.to_dict()


def test_residuals_of_points_do() -> None:
    labelled, unlabelled, (x, *_) = pair()
    for model, points in ((labelled, Labelled(x)), (unlabelled, x)):
        residuals = model.heads[0](model.trunk(points))
        loss = eq.pointwise.ResidualAttention(len(x))(residuals, index=torch.arange(len(x)))
        assert type(loss) is Tensor
        loss.backward()
    assert torch.equal(labelled.heads[0].weight.grad, unlabelled.heads[0].weight.grad)


def test_a_subclass_that_says_how_numbers_are_stored_stays() -> None:
    class Stored(Tensor):
        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            raise AssertionError(func)

    stored = Tensor._make_subclass(Stored, torch.ones(()))
    assert plain(stored) is stored
    assert plain(parameter := torch.ones(())) is parameter
