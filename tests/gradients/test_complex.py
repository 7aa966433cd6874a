"""Complex parameters are balanced as the pairs of real ones that they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import equipoise as eq
from tests.methods import NAMES, make


class Spectral(nn.Module):
    """Multiplies frequencies with weights, complex ones or pairs of real ones, for three losses."""

    def __init__(self, paired):
        super().__init__()
        torch.manual_seed(0)
        weight = torch.randn(3, 5, 5, dtype=torch.cdouble)
        self.weight = nn.Parameter(torch.view_as_real(weight) if paired else weight)
        self.bias = nn.Parameter(torch.zeros(5, 1, dtype=torch.double))
        self.paired = paired

    def forward(self, x):
        weight = torch.view_as_complex(self.weight) if self.paired else self.weight
        mixed = torch.einsum("bim,mio->bom", torch.fft.rfft(x)[..., :3], weight)
        y = torch.tanh(torch.fft.irfft(mixed, n=x.shape[-1]) + self.bias)
        return [
            y.square().mean(),
            (y[..., 1:] - y[..., :-1] - 1).abs().mean(),
            (y - x).exp().mean(),
        ]


def pair():
    generator = torch.Generator().manual_seed(1)
    draw = lambda: torch.randn(4, 5, 8, dtype=torch.double, generator=generator)  # noqa: E731
    return Spectral(paired=False), Spectral(paired=True), [draw() for _ in range(3)]


@pytest.mark.parametrize("name", NAMES)
def test_every_method_gives_the_gradient_of_the_pairs(name) -> None:
    of_complex, of_pairs, data = pair()
    torch.manual_seed(2)
    one = make(name)
    other = copy.deepcopy(one)
    for x in data:
        one.backward(of_complex(x))
        other.backward(of_pairs(x))
        found = torch.view_as_real(of_complex.weight.grad)
        torch.testing.assert_close(found, of_pairs.weight.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(of_complex.bias.grad, of_pairs.bias.grad)


@pytest.mark.parametrize("kind", [eq.MTAdam, eq.AutoBalance])
def test_optimizers_take_the_step_of_the_pairs(kind) -> None:
    of_complex, of_pairs, data = pair()
    one, other = kind(of_complex.parameters()), kind(of_pairs.parameters())
    for x in data:
        one.backward(of_complex(x))
        one.step()
        other.backward(of_pairs(x))
        other.step()
    torch.testing.assert_close(torch.view_as_real(of_complex.weight), of_pairs.weight)
