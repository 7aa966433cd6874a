from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.con_fig import ConFIG
from tests.aggregation.following import follow_gradient, follow_live, independent
from tests.golden import load
from tests.models import MultiHead, batch, flat_grad, jacobian

OPTIONS = {
    "config_conflictfree": {},
    "config_conflictfree_T2": {},
    "config_conflictfree_pinv": {},
    "config_conflictfree_trackmin": {"length": "minimum"},
    "config_conflictfree_trackmax": {"length": "maximum"},
    "config_conflictfree_trackharm": {"length": "harmonic"},
    "config_torchjd": {},
    "config_torchjd_pref": {"preference": [1.0, 2.0, 0.5]},
}


@pytest.mark.parametrize(("name", "options"), OPTIONS.items())
def test_gradients_follow_the_references(name, options):
    golden = load(name)
    losses = len(golden.steps[0]["jacobian"])
    follow_gradient(golden, ConFIG(losses, **options))
    follow_live(golden, ConFIG(losses, **options))


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_every_gradient_has_the_same_cosine_and_the_length_is_what_all_go(seed, losses):
    rows = independent(losses, 8, seed)
    update = ConFIG(losses).combine(torch.ones(losses).double(), Gradients(rows))
    cosines = rows @ update / rows.norm(dim=1) / update.norm()
    torch.testing.assert_close(cosines, cosines[:1].expand(losses), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(update.norm(), (rows @ update).sum() / update.norm())


def test_cosines_are_in_the_proportion_of_the_preference():
    rows = independent(3, 6)
    balancer = ConFIG(["a", "b", "c"], preference={"a": 1.0, "b": 2.0, "c": 0.5})
    update = balancer.combine(torch.ones(3).double(), Gradients(rows))
    cosines = rows @ update / rows.norm(dim=1)
    expected = torch.tensor([1, 2, 0.5], dtype=torch.float64)
    torch.testing.assert_close(cosines / cosines[0], expected)


@pytest.mark.parametrize("length", ["projection", "minimum", "maximum", "harmonic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opposite_gradients_cancel_to_zero(length, dtype):
    row = torch.randn(9, dtype=dtype)
    rows = torch.stack([row, -3 * row])
    update = ConFIG(2, length=length).combine(torch.ones(2, dtype=dtype), Gradients(rows))
    torch.testing.assert_close(update, torch.zeros_like(row))


def test_dependent_gradients_in_float32_give_what_float64_gives():
    rows = independent(3, 40)
    rows[2] = 0.3 * rows[0] + 0.2 * rows[1]
    wide = ConFIG(3).combine(torch.ones(3).double(), Gradients(rows))
    narrow = ConFIG(3).combine(torch.ones(3), Gradients(rows.float()))
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"length": "long"}, {"preference": -1.0}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        ConFIG(2, **options)


def test_a_losses_own_parameters_get_its_plain_gradient():
    model, x = MultiHead(4), batch()
    heads = list(model.heads.parameters())
    plain = jacobian(model(x), heads).sum(0)
    ConFIG(4).backward(model(x))
    torch.testing.assert_close(flat_grad(heads), plain)


def test_almost_dependent_gradients_lose_no_digits_to_the_gramian():
    rows = independent(3, 6)
    rows[2] = -rows[0] - rows[1] + 1e-6 * rows[2]
    units = rows / rows.norm(dim=1, keepdim=True)
    direction = torch.linalg.lstsq(units, torch.ones(3).double(), driver="gelsd").solution
    direction = direction / direction.norm()
    update = ConFIG(3).combine(torch.ones(3).double(), Gradients(rows))
    torch.testing.assert_close(update, (rows @ direction).sum() * direction, rtol=1e-7, atol=0)


def slow_update(rows, preference):
    """The paper's formula by the pseudoinverse of the unit gradients, not of the Gramian.

    A singular value counts as zero where its square lies below the docstring's rounding.
    """
    units = (rows / rows.norm(dim=1, keepdim=True)).numpy()
    tolerance = np.sqrt(len(rows) * np.finfo(np.float64).eps)
    direction = np.linalg.pinv(units, rcond=tolerance) @ preference
    direction = torch.from_numpy(direction / np.linalg.norm(direction))
    return (rows @ direction).sum() * direction


@pytest.mark.parametrize(("losses", "rank"), [(3, 2), (4, 2), (5, 4), (8, 3)])
def test_dependent_gradients_follow_the_pseudoinverse(losses, rank):
    preference = np.linspace(1.0, 2.0, losses)
    for seed in range(20):
        rows = independent(losses, rank, seed) @ independent(rank, 12, seed + 100)
        update = ConFIG(losses, preference=preference.tolist()).combine(
            torch.ones(losses).double(), Gradients(rows)
        )
        expected = slow_update(rows, preference)
        torch.testing.assert_close(update, expected, rtol=1e-6, atol=1e-7 * float(rows.norm()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("times", "kept"), [(8.0, True), (0.25, False)])
def test_the_rank_test_is_the_number_of_losses_times_the_epsilon_of_the_gradients(
    times, kept, dtype
):
    # Two unit gradients whose cosines have the eigenvalues 2 and this multiple of the limit.
    small = times * 2 * 2 * torch.finfo(dtype).eps
    rows = torch.tensor([[1.0, 0.0], [1.0, (2 * small) ** 0.5]], dtype=dtype)
    weights = ConFIG(2, preference=[1.0, 3.0]).weigh(torch.ones(2, dtype=dtype), Gradients(rows))
    apart = float((weights[0] - weights[1]).abs() / weights.abs().mean())
    assert (apart > 0.1) == kept
