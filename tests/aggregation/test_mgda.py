from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.mgda import MGDA
from tests.aggregation.following import (
    follow_gradient,
    follow_live,
    follow_weights,
    independent,
    seen,
)
from tests.golden import assert_matches, load, names, tensor
from tests.models import MultiHead, batch

EXACT = [*names("mgda_torchjd_*"), *names("mgda_official_*"), "mgda_libmtl_none", "mgda_libmtl_T2"]
NORMALIZED = {"mgda_libmtl_l2": "l2", "mgda_libmtl_loss": "loss", "mgda_libmtl_lossplus": "loss+"}


# Among the references' rows are some of zero, which a method warns of.
@pytest.mark.filterwarnings("ignore:The gradient of loss .* is exactly zero")
@pytest.mark.parametrize("name", EXACT)
def test_weights_and_gradient_follow_the_references(name):
    golden = load(name)
    balancer = MGDA(len(golden.steps[0]["jacobian"]))
    follow_weights(golden, balancer)
    follow_gradient(golden, balancer)
    follow_live(golden, balancer)


@pytest.mark.parametrize(("name", "normalization"), NORMALIZED.items())
def test_normalized_weights_follow_libmtl(name, normalization):
    follow_weights(load(name), MGDA(3, normalization=normalization))


@pytest.mark.parametrize(("name", "normalization"), NORMALIZED.items())
def test_weights_applied_to_normalized_gradients_follow_libmtl(name, normalization):
    follow_gradient(load(name), MGDA(3, normalization=normalization, apply_to="normalized"))


def test_weights_that_sum_to_T_follow_nash_mtl():
    follow_gradient(load("mgda_nashmtl"), MGDA(3, reduction="sum"))


def test_gradients_summed_over_the_batch_give_the_weights_of_libmtls_representation():
    golden = load("mgda_libmtl_repgrad")
    balancer = MGDA(3)
    for step in golden.steps:
        whole = tensor(step["gradients"])
        weights = balancer.weigh(tensor(step["losses"]), Gradients(whole.sum(1)))
        assert_matches(golden, weights, step["weights"])
        assert_matches(golden, torch.einsum("t,tbf->bf", weights, whole), step["gradient"])


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 8))
def test_no_gradient_opposes_the_update_by_less_than_its_square(seed, losses, columns):
    rows = independent(losses, columns, seed)
    update = MGDA(losses).combine(torch.ones(losses).double(), Gradients(rows))
    slack = 1e-10 * rows.square().sum(1).max()
    assert (rows @ update >= update @ update - slack).all()


def test_equal_to_the_best_of_a_fine_grid():
    rows = independent(3, 5, 3)
    weights = MGDA(3).weigh(torch.ones(3).double(), Gradients(rows))
    first, second = torch.meshgrid(*[torch.linspace(0, 1, 401).double()] * 2, indexing="ij")
    grid = torch.stack([first, second, 1 - first - second], dim=-1)[first + second <= 1]
    best = grid[(grid @ rows).square().sum(1).argmin()]
    torch.testing.assert_close(weights, best, rtol=0, atol=1 / 400)


def test_loss_normalization_takes_the_scale_of_a_loss_out_of_the_update():
    rows, factor = independent(3, 6, 1), torch.tensor([1.0, 40.0, 0.02]).double()
    values = torch.tensor([0.5, 3.0, 1.5]).double()
    options = {"normalization": "loss", "apply_to": "normalized"}
    plain = MGDA(3, **options).combine(values, Gradients(rows))
    scaled = MGDA(3, **options).combine(values * factor, Gradients(rows * factor[:, None]))
    torch.testing.assert_close(scaled, plain)


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_the_bisector_has_one_cosine_with_all_gradients_that_count(seed, losses):
    rows = independent(losses, 8, seed)
    edm = MGDA(losses, normalization="l2", apply_to="rescaled")
    weights = edm.weigh(torch.ones(losses).double(), Gradients(rows))
    update = weights @ rows
    products = torch.nn.functional.normalize(rows) @ update
    torch.testing.assert_close(weights.sum(), torch.ones(()).double())
    counted = weights > 1e-9
    torch.testing.assert_close(
        products[counted], products.min().expand(int(counted.sum())), rtol=1e-6, atol=1e-9
    )


def test_the_bisector_of_two_is_the_closed_form_of_its_authors_code():
    rows = independent(2, 6, 4) * torch.tensor([[30.0], [0.2]]).double()
    first, second = rows.norm(dim=1)
    expected = (rows[0] * second + rows[1] * first) / (first + second)
    edm = MGDA(2, normalization="l2", apply_to="rescaled")
    torch.testing.assert_close(edm.combine(torch.ones(2).double(), Gradients(rows)), expected)


def test_the_bisector_turns_with_no_scale_of_a_loss():
    rows, factor = independent(3, 6, 1), torch.tensor([1.0, 40.0, 0.02]).double()
    edm = MGDA(3, normalization="l2", apply_to="rescaled")
    plain = edm.combine(torch.ones(3).double(), Gradients(rows))
    scaled = edm.combine(factor, Gradients(rows * factor[:, None]))
    torch.testing.assert_close(scaled / scaled.norm(), plain / plain.norm())


@pytest.mark.parametrize("apply_to", ["raw", "normalized", "rescaled"])
@pytest.mark.parametrize("normalization", ["l2", "loss", "loss+"])
def test_a_zero_gradient_and_a_zero_loss_end_finite(normalization, apply_to):
    rows = independent(3, 4)
    rows[0] = 0
    values = torch.tensor([1.0, 0.0, 2.0]).double()
    balancer = MGDA(3, normalization=normalization, apply_to=apply_to)
    weights = balancer.weigh(values, Gradients(rows))
    assert weights.tolist() == [1.0, 0.0, 0.0]
    assert not balancer.skipped.any()


def test_the_upper_bound_compares_gradients_at_the_whole_representation():
    model = MultiHead(3)
    x = batch()
    hidden = model.trunk(x).detach().requires_grad_()
    at = [(i + 1) * (head(hidden) - i).square().mean() for i, head in enumerate(model.heads)]
    rows = torch.stack([torch.autograd.grad(loss, hidden)[0].flatten() for loss in at])
    expected = MGDA(3).weigh(torch.stack(at).detach(), Gradients(rows))
    balancer = MGDA(3, wrt="representation")
    balancer.backward(model(x))
    torch.testing.assert_close(balancer.last.weights, expected)


def test_sum_is_T_times_mean():
    values, gradients = seen(load("mgda_torchjd_converged").steps[0])
    mean = MGDA(3).weigh(values, gradients)
    torch.testing.assert_close(MGDA(3, reduction="sum").weigh(values, gradients), 3 * mean)


@pytest.mark.parametrize("option", ["normalization", "apply_to", "reduction"])
def test_an_unknown_choice_is_refused_by_name(option):
    with pytest.raises(ValueError, match=f"`{option}` is 'half'; write"):
        MGDA(2, **{option: "half"})
