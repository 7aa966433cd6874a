"""The Gramian and the combination without the gradients of affine layers, against rows of them."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import equipoise as eq
from equipoise.benchmarks.bench.memory import peak_memory
from equipoise.gradients.factored import FactoredGradients
from equipoise.gradients.meter import Meter
from tests.releases import tells_what_it_saved

WIDE = 260
ROWS = eq.Measuring(dtype=torch.float64)  # says what rows are kept in, so that rows are kept


class Net(nn.Module):
    """Layers that are tied, used twice, without a bias; and parameters of no affine layer."""

    def __init__(self, heads, *, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(6, WIDE)
        self.twice = nn.Linear(WIDE, WIDE)
        self.bare = nn.Linear(WIDE, WIDE, bias=False)
        self.norm = nn.LayerNorm(WIDE)
        self.tied = nn.Linear(WIDE, WIDE)
        self.mixed = nn.Parameter(torch.randn(WIDE, WIDE) / WIDE)  # in a product, and by itself
        self.heads = nn.ModuleList(nn.Linear(WIDE, 1) for _ in range(heads))
        self.double()

    def forward(self, x):
        hidden = self.twice(self.twice(self.first(x).tanh()).tanh())
        hidden = self.norm(self.bare(hidden) + F.linear(hidden, self.tied.weight)).tanh()
        hidden = hidden + self.tied(hidden) + F.linear(hidden, self.mixed)
        hidden = hidden + self.mixed.diagonal()
        return [(3.0**i) * F.softplus(head(hidden)).mean() for i, head in enumerate(self.heads)]


def gradients_of(model):
    return [parameter.grad.clone() for parameter in model.parameters()]


def trained(model, make, inputs):
    torch.manual_seed(0)
    model, balancer = copy.deepcopy(model), make()
    for x, present in inputs:
        losses = model(x)
        balancer.backward({str(i): losses[i] for i in present})
    return gradients_of(model), balancer


def is_factored(model, x):
    losses = model(x)
    shared = [p for n, p in model.named_parameters() if not n.startswith("heads")]
    meter = Meter(eq.Measuring(), eq.Equal(2).processes, needs="gramian")
    terms = eq.losses.read_losses(losses, tuple(map(str, range(len(losses)))))
    watched = meter.watch(terms, shared)
    found = meter.run(terms, watched, retain_graph=True).gradients
    return isinstance(found, FactoredGradients)


@tells_what_it_saved
@given(
    seed=st.integers(0, 2**16),
    count=st.integers(2, 5),
    batch=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    steps=st.integers(1, 2),
)
def test_a_step_is_that_of_whole_gradients(seed, count, batch, dtype, steps) -> None:
    model = Net(count, seed=seed).to(dtype)
    inputs = [(torch.randn(*batch, 6, dtype=dtype), range(count)) for _ in range(steps)]
    assert is_factored(model, inputs[0][0])
    found, fast = trained(model, lambda: eq.UPGrad(count), inputs)
    expected, slow = trained(
        model.double(),
        lambda: eq.UPGrad(count, measuring=ROWS),
        [(x.double(), present) for x, present in inputs],
    )
    rtol, atol = (1e-9, 1e-12) if dtype == torch.float64 else (2e-4, 2e-5)
    torch.testing.assert_close(fast.last.cosines.double(), slow.last.cosines, rtol=rtol, atol=atol)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["upgrad", "nashmtl", "mgda", "pcgrad", "imtlg"])
@pytest.mark.parametrize("options", [{}, {"every": 2}, {"heads": "plain"}])
def test_absent_losses_accumulation_and_plain_heads_are_as_with_whole_gradients(name, options):
    model = Net(3)
    inputs = [(torch.randn(4, 6).double(), p) for p in ([0, 1, 2], [0, 2], [1], [0, 1, 2])]

    def build(**how):
        return eq.create_balancer(name, 3, wrt="shared", **options, **how)

    found, _ = trained(model, build, inputs)
    expected, _ = trained(model, lambda: build(measuring=ROWS), inputs)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-11)


@tells_what_it_saved
def test_whole_gradients_are_there_for_whom_asks() -> None:
    torch.manual_seed(0)
    model = Net(3)
    losses = model(torch.randn(4, 6).double())
    shared = [p for n, p in model.named_parameters() if not n.startswith("heads")]
    meter = Meter(eq.Measuring(), eq.Equal(2).processes, needs="gramian")
    terms = eq.losses.read_losses(losses, ("a", "b", "c"))
    found = meter.run(terms, meter.watch(terms, shared), retain_graph=True).gradients
    assert isinstance(found, FactoredGradients)
    whole = eq.measure(losses, shared)
    torch.testing.assert_close(found.matrix(), whole.matrix(), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found.gram(), whole.gram(), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found.norms(), whole.norms(), rtol=1e-10, atol=1e-14)
    weights = torch.tensor([0.3, -1.0, 2.0])
    torch.testing.assert_close(found.combine(weights), weights.double() @ whole.matrix())
    assert found.sizes == whole.sizes


@tells_what_it_saved
def test_no_digit_of_an_inner_product_is_lost_where_samples_cancel() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(512, 128), torch.randn(8, 512)
    output = layer(torch.cat([x, x + 1e-3 * torch.randn(8, 512)]))
    sign = torch.cat([torch.ones(8), -torch.ones(8)])[:, None]
    losses = [(sign * output * torch.rand(128)).sum() for _ in range(3)]
    meter = Meter(eq.Measuring(), eq.Equal(2).processes, needs="gramian")
    terms = eq.losses.read_losses(losses, ("a", "b", "c"))
    found = meter.run(terms, meter.watch(terms, layer), retain_graph=True).gradients
    assert isinstance(found, FactoredGradients)
    rows = eq.measure(losses, layer, measuring=ROWS)
    torch.testing.assert_close(found.cosines().double(), rows.cosines(), rtol=1e-4, atol=1e-4)


@tells_what_it_saved
def test_less_memory_is_taken_than_by_rows() -> None:
    trunk = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(512, 512), nn.ReLU())])
    heads = nn.ModuleList(nn.Linear(512, 1) for _ in range(8))

    def peak(**options):
        balancer = eq.UPGrad(8, **options)

        def step():
            hidden = trunk(torch.ones(16, 512))
            balancer.backward([head(hidden).square().mean() for head in heads])

        return peak_memory(step, torch.device("cpu"))

    assert peak() < peak(measuring=eq.Measuring(dtype=torch.float32)) / 2
