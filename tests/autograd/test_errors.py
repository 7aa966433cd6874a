from __future__ import annotations

import pytest
import torch
from torch import nn

import equipoise as eq

names_losses = pytest.mark.skipif(
    not hasattr(torch._C._autograd.SavedTensor, "data"),
    reason="this release of torch does not tell what of a graph is freed",
)


@pytest.mark.parametrize("balancer", [eq.Equal(2), eq.MGDA(2), eq.GradDrop(2)])
def test_a_loss_that_goes_backward_after_another_one_stepped_is_explained_in_a_sentence(
    balancer,
) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, *others = model(torch.randn(5, 3)).square().mean(0).repeat(2)[:3]
    first.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="an optimizer stepped in between") as caught:
        balancer.backward(others)
    assert "inplace operation" in str(caught.value.__cause__)


def test_mtadam_explains_it_alike() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = eq.MTAdam([weight])
    loss = weight.square().sum()
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="an optimizer stepped in between"):
        optimizer.backward([loss, loss])


def test_another_error_of_autograd_stays_as_it_is() -> None:
    def hook(_gradient):
        raise RuntimeError("mine")

    weight = torch.ones(2, requires_grad=True)
    losses = [weight.square().sum(), weight.pow(3).sum()]
    weight.register_hook(hook)
    with pytest.raises(RuntimeError, match=r"^mine$"):
        eq.Equal(2).backward(losses)


@names_losses
def test_losses_that_go_backward_a_second_time_are_named() -> None:
    weight = torch.ones(2, requires_grad=True)
    losses = [weight.square().sum(), weight.pow(3).sum()]
    eq.Equal(2).backward(losses)
    with pytest.raises(RuntimeError, match="a second time") as caught:
        eq.Equal(2).backward(losses)
    assert "'0', '1' of the losses" in str(caught.value)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))


def kept_and_new(slope, model, x):
    return {"kept": (slope - 1).square().mean(), "new": model(0 * x).square().mean()}


@names_losses
def test_a_residual_kept_from_the_step_before_is_named_alone() -> None:
    model, x, balancer = network(), torch.rand(8, 1, requires_grad=True), eq.Equal(["kept", "new"])
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    balancer.backward(kept_and_new(slope, model, x))
    with pytest.raises(RuntimeError, match=r"^'kept' of the losses goes backward a second"):
        balancer.backward(kept_and_new(slope, model, x))


@names_losses
def test_mtadam_names_it_alike() -> None:
    model, x = network(), torch.rand(8, 1, requires_grad=True)
    optimizer = eq.MTAdam(model.parameters(), losses=["new", "kept"])
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    optimizer.backward(kept_and_new(slope, model, x))
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"^'kept' of the losses goes backward a second"):
        optimizer.backward(kept_and_new(slope, model, x))


@names_losses
@pytest.mark.parametrize("balancer", [eq.UPGrad(["a", "b"]), eq.GradNorm(["a", "b"])])
def test_a_loss_that_went_backward_by_itself_in_the_same_step_is_named(balancer) -> None:
    model, x = network(), torch.rand(8, 1)
    losses = {"a": model(x).exp().mean(), "b": model(x).square().mean()}
    losses["b"].backward()
    with pytest.raises(RuntimeError, match=r"^'b' of the losses.*retain_graph=True"):
        balancer.backward(losses)
    losses = {"a": model(x).exp().mean(), "b": model(x).square().mean()}
    losses["b"].backward()
    with pytest.raises(RuntimeError, match=r"^'b' of the losses"):
        balancer(losses)


@names_losses
def test_what_hooks_keep_of_a_graph_is_not_unpacked_to_find_out() -> None:
    unpacked = []
    weight = torch.ones(2, requires_grad=True)
    stale = weight.pow(3).sum()
    stale.backward()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: unpacked.append(1) or t):
        fresh = weight.exp().square().sum()
    with pytest.raises(RuntimeError, match=r"^'0' of the losses"):
        eq.UPGrad(2).backward([stale, fresh])
    assert not unpacked
