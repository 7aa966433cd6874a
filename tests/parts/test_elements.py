from __future__ import annotations

import pytest
import torch

from equipoise.parts.elements import kurtosis, largest_and_mean, standard_deviation

SIZES = (1, 70_000, 3, 65_536)


def row(dtype: torch.dtype, mean: float = 0.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(n, generator=generator) + mean).to(dtype) for n in SIZES]


@pytest.mark.parametrize("mean", [0.0, 30.0])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_statistics_are_those_of_all_elements_in_one_tensor(dtype, rtol, mean) -> None:
    parts = row(dtype, mean)
    whole = torch.cat(parts).double()
    scores = (whole - whole.mean()) / whole.std()
    found = [standard_deviation(parts), kurtosis(parts), *largest_and_mean(parts)]
    expected = [whole.std(), scores.pow(4).mean(), whole.abs().max(), whole.abs().mean()]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=rtol, atol=0)


def test_equal_elements_do_not_deviate_nor_does_one_alone() -> None:
    for parts in ([torch.full((5,), 0.5)], [torch.tensor([7.0])]):
        assert standard_deviation(parts) == 0
        assert kurtosis(parts) == 1


def test_what_is_not_finite_stays_so() -> None:
    parts = [torch.tensor([1.0, torch.inf]), torch.zeros(2)]
    assert not standard_deviation(parts).isfinite()
    assert not kurtosis(parts).isfinite()
