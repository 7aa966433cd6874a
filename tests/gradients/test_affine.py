from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import equipoise as eq
from equipoise.benchmarks.bench.memory import peak_memory
from equipoise.gradients import streamed as streaming
from equipoise.gradients.factored import affine_norms
from equipoise.gradients.passes import Passes
from tests.releases import tells_what_it_saved

WIDE, OUT = 512, 128  # just large enough


def direct_norms(losses, targets):
    """One whole gradient after the other, in float64."""
    rows = [torch.autograd.grad(x, targets, retain_graph=True, allow_unused=True) for x in losses]
    return torch.stack([
        sum((g.double().square().sum() for g in row if g is not None), torch.zeros(())).sqrt()
        for row in rows
    ])  # fmt: skip


def three_losses(output):
    return [output.square().mean(), output.abs().mean(), 1e-3 * output.sin().sum()]


@tells_what_it_saved
@given(
    seed=st.integers(0, 2**16),
    batch=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    bias=st.booleans(),
    repeated=st.booleans(),
)
def test_norms_equal_those_of_whole_gradients(seed, batch, bias, repeated) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(WIDE, OUT, bias=bias, dtype=torch.float64)
    x = torch.randn(*batch, WIDE, dtype=torch.float64)
    if repeated:  # the inputs span less than there are rows
        x = x[:1].repeat(len(x), *(1 for _ in x.shape[1:]))
    losses = three_losses(layer(x).tanh())
    targets = list(layer.parameters())
    found = affine_norms(Passes(losses, targets))
    assert found is not None
    torch.testing.assert_close(found, direct_norms(losses, targets), rtol=1e-9, atol=1e-14)


@tells_what_it_saved
def test_no_digit_is_lost_where_samples_cancel() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(WIDE, OUT)
    x = torch.randn(8, WIDE)
    output = layer(torch.cat([x, x + 1e-3 * torch.randn(8, WIDE)]))
    sign = torch.cat([torch.ones(8), -torch.ones(8)])[:, None]
    losses = [(sign * output).sum(), (sign * output * torch.rand(OUT)).sum()]
    targets = list(layer.parameters())
    found = affine_norms(Passes(losses, targets))
    # From the Gramian of the inputs nothing would be left: 1e-3 squared is what it rounds to.
    assert found is not None
    torch.testing.assert_close(found, direct_norms(losses, targets).float(), rtol=1e-4, atol=0)


@tells_what_it_saved
def test_a_loss_that_does_not_reach_the_layer_has_norm_zero_and_a_loss_scale_counts() -> None:
    layer, other = nn.Linear(WIDE, OUT), nn.Parameter(torch.ones(()))
    losses = [layer(torch.rand(2, WIDE)).mean(), other.square()]
    targets = list(layer.parameters())
    found = affine_norms(Passes(losses, targets, seed=torch.tensor(8.0)))
    torch.testing.assert_close(found, 8 * direct_norms(losses, targets).float())


def used_twice():
    layer = nn.Linear(WIDE, WIDE)
    return layer(layer(torch.rand(2, WIDE))), list(layer.parameters())


def tied_bias():
    layer = nn.Linear(WIDE, OUT)
    return layer(torch.rand(2, WIDE)) * layer.bias, list(layer.parameters())


def penalised():
    layer = nn.Linear(WIDE, OUT)
    return layer(torch.rand(2, WIDE)) + layer.weight.square().mean(), list(layer.parameters())


def hooked():
    layer = nn.Linear(WIDE, OUT)
    layer.weight.register_hook(lambda gradient: 2 * gradient)
    return layer(torch.rand(2, WIDE)), list(layer.parameters())


def many_rows():
    layer = nn.Linear(WIDE, OUT)
    return layer(torch.rand(WIDE, WIDE)), list(layer.parameters())


def small():
    layer = nn.Linear(8, 8)
    return layer(torch.rand(2, 8)), list(layer.parameters())


def not_transposed():
    weight = nn.Parameter(torch.rand(WIDE, OUT))
    return torch.rand(2, WIDE) @ weight, [weight]


def weighted_sum():
    weight, bias = nn.Parameter(torch.rand(OUT, WIDE)), nn.Parameter(torch.rand(OUT))
    return torch.addmm(bias, torch.rand(2, WIDE), weight.T, alpha=2.0), [weight, bias]


def convolution():
    layer = nn.Conv2d(WIDE, OUT, 1)
    return layer(torch.rand(1, WIDE, 2, 2)), list(layer.parameters())


def in_half_precision():
    layer = nn.Linear(WIDE, OUT)
    with torch.autocast("cpu", torch.bfloat16):
        return layer(torch.rand(2, WIDE)).float(), list(layer.parameters())


def two_layers():
    layers = nn.ModuleList([nn.Linear(WIDE, OUT), nn.Linear(WIDE, OUT)])
    x = torch.rand(2, WIDE)
    return layers[0](x) + layers[1](x), list(layers.parameters())


def one_with_a_bias():
    layer, x = nn.Linear(WIDE, OUT), torch.rand(2, WIDE)
    return layer(x) + F.linear(x.flip(0), layer.weight), list(layer.parameters())


def checkpointed():
    layer = nn.Linear(WIDE, OUT)
    output = checkpoint(layer, torch.rand(2, WIDE), use_reentrant=False)
    return output, list(layer.parameters())


@pytest.mark.parametrize(
    "make",
    [
        penalised,
        hooked,
        many_rows,
        small,
        not_transposed,
        weighted_sum,
        convolution,
        in_half_precision,
        checkpointed,
    ],
)
def test_what_is_no_affine_layer_with_few_rows_is_left_to_whole_gradients(make) -> None:
    output, targets = make()
    assert affine_norms(Passes(three_losses(output), targets)) is None


@tells_what_it_saved
@pytest.mark.parametrize("make", [used_twice, tied_bias, two_layers, one_with_a_bias])
def test_layers_used_twice_or_with_a_bias_of_several_are_measured_without_gradients(make) -> None:
    output, targets = make()
    losses = three_losses(output)
    found = affine_norms(Passes(losses, targets))
    assert found is not None
    torch.testing.assert_close(found, direct_norms(losses, targets).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("make", [used_twice, tied_bias, hooked, many_rows, checkpointed])
def test_norms_are_right_all_the_same(make) -> None:
    output, targets = make()
    losses = three_losses(output)
    found = streaming.StreamedGradients(Passes(losses, targets), [t.numel() for t in targets])
    torch.testing.assert_close(found.norms(), direct_norms(losses, targets).float())


@tells_what_it_saved
def test_a_weight_without_its_frozen_bias_is_measured_alone() -> None:
    layer = nn.Linear(WIDE, OUT)
    layer.bias.requires_grad_(False)
    losses = three_losses(layer(torch.rand(3, WIDE)))
    found = affine_norms(Passes(losses, [layer.weight]))
    torch.testing.assert_close(found, direct_norms(losses, [layer.weight]).float())


class TwoWideHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, WIDE, dtype=torch.float64)
        self.last = nn.Linear(WIDE, OUT, dtype=torch.float64)
        self.heads = nn.ModuleList(nn.Linear(OUT, 1, dtype=torch.float64) for _ in range(2))

    def trunk(self, x):
        return self.last(self.first(x).tanh()).tanh()

    def forward(self, x, *, checkpointed=False):
        shared = checkpoint(self.trunk, x, use_reentrant=False) if checkpointed else self.trunk(x)
        return [(10**i) * F.softplus(head(shared)).mean() for i, head in enumerate(self.heads)]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradnorm_learns_the_same_weights_as_from_whole_gradients(checkpointed, monkeypatch):
    def train():
        model = TwoWideHeads()
        balancer = eq.GradNorm(2)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            x = torch.randn(4, 6, generator=generator, dtype=torch.float64)
            optimizer.zero_grad()
            balancer.backward(model(x, checkpointed=checkpointed))
            optimizer.step()
        return [*model.parameters(), balancer.loss_weights, balancer.last.norms]

    found = train()
    monkeypatch.setattr(streaming, "affine_norms", lambda _passes: None)
    torch.testing.assert_close(found, train(), rtol=1e-9, atol=1e-12)


def test_one_gradient_of_the_layers_output_is_alive_at_a_time() -> None:
    layer = nn.Linear(WIDE, OUT)
    features = nn.Parameter(torch.rand(64, WIDE)) * 1.0  # as the layer below gives them
    output = layer(features)
    losses = [(output * (i + 1)).square().mean() for i in range(20)]
    targets = list(layer.parameters())
    alive = peak_memory(lambda: affine_norms(Passes(losses, targets)), torch.device("cpu"))
    assert alive < len(losses) * output.nbytes
