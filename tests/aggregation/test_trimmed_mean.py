from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.trimmed_mean import TrimmedMean
from tests.aggregation.following import follow_gradient, follow_live
from tests.golden import load


@pytest.mark.parametrize(
    ("name", "losses", "trimmed"),
    [("trimmedmean_torchjd_1", 3, 1), ("trimmedmean_torchjd_2_T8", 8, 2)],
)
def test_gradients_follow_torchjd(name, losses, trimmed):
    golden = load(name)
    follow_gradient(golden, TrimmedMean(losses, trim_number=trimmed))
    follow_live(golden, TrimmedMean(losses, trim_number=trimmed))


def test_outliers_below_the_trim_number_cannot_move_the_result_out_of_the_others():
    rows = torch.randn(7, 20)
    rows[[1, 4]] = torch.tensor([[1e12], [-1e12]])
    honest = rows[[0, 2, 3, 5, 6]]
    combined = TrimmedMean(7, trim_number=2).combine(torch.ones(7), Gradients(rows))
    assert (combined >= honest.min(0).values).all()
    assert (combined <= honest.max(0).values).all()


@pytest.mark.parametrize(("losses", "middle"), [(1, [0.0]), (2, [0.5]), (3, [1.0]), (4, [1.5])])
def test_never_so_many_are_trimmed_that_none_is_left(losses, middle):
    rows = torch.arange(float(losses))[:, None]
    combined = TrimmedMean(losses, trim_number=9).combine(torch.ones(losses), Gradients(rows))
    assert combined.tolist() == middle


def test_nothing_trimmed_is_the_mean():
    rows = torch.randn(4, 6)
    combined = TrimmedMean(4, trim_number=0).combine(torch.ones(4), Gradients(rows))
    torch.testing.assert_close(combined, rows.mean(0))
    with pytest.raises(ValueError, match="`trim_number` is -1"):
        TrimmedMean(4, trim_number=-1)
