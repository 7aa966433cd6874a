from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise import Gradients
from equipoise.aggregation.imtlg import IMTLG
from tests.aggregation.following import follow_gradient, follow_live, follow_weights, independent
from tests.golden import load, names
from tests.models import MultiHead, batch, flat_grad


@pytest.mark.parametrize("name", names("imtlg_*"))
def test_weights_and_gradient_follow_the_references(name):
    golden = load(name)
    balancer = IMTLG(3, zero_gradients="stop" if name == "imtlg_conflictfree" else "drop")
    follow_gradient(golden, balancer)
    follow_live(golden, balancer)
    if "weights" in golden.output:
        follow_weights(golden, balancer)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_update_projects_equally_onto_every_gradient(seed, losses):
    rows = torch.cat([independent(losses, 6, seed), torch.eye(losses).double()], dim=1)
    weights = IMTLG(losses).weigh(torch.ones(losses).double(), Gradients(rows))
    projections = torch.nn.functional.normalize(rows) @ (weights @ rows)
    torch.testing.assert_close(projections, projections.mean().expand(losses))
    assert abs(weights.sum() - 1) < 1e-9


def test_the_direction_does_not_depend_on_the_scale_of_a_loss():
    rows, values = independent(3, 6), torch.ones(3).double()
    scaled = rows * torch.tensor([1.0, 300.0, 0.02]).double()[:, None]
    one, other = (IMTLG(3).combine(values, Gradients(matrix)) for matrix in (rows, scaled))
    torch.testing.assert_close(one / one.norm(), other / other.norm())


def test_a_zero_gradient_weighs_nothing_and_leaves_the_others_as_without_it():
    rows = independent(3, 6)
    rows[1] = 0
    weights = IMTLG(3).weigh(torch.ones(3).double(), Gradients(rows))
    assert weights[1] == 0
    without = IMTLG(2).weigh(torch.ones(2).double(), Gradients(rows[::2]))
    torch.testing.assert_close(weights[::2], without)


def test_with_the_sign_of_descent_no_step_raises_all_losses():
    values, raised = torch.ones(3).double(), 0
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        letter = IMTLG(3).weigh(values, Gradients(rows))
        descent = IMTLG(3, sign="descent").weigh(values, Gradients(rows))
        raised += int((rows @ (letter @ rows) < 0).all())
        assert not (rows @ (descent @ rows) < 0).any()
        assert torch.equal(descent.abs(), letter.abs())
    assert 0 < raised < 60


def test_an_unknown_choice_is_refused_by_name():
    with pytest.raises(ValueError, match="`zero_gradients` is 'keep'; write 'drop' or 'stop'"):
        IMTLG(2, zero_gradients="keep")


def test_gradients_are_watched_at_the_shared_representation():
    model = MultiHead(3)
    x = batch()
    hidden = model.trunk(x).detach().requires_grad_()
    at = [(i + 1) * (head(hidden) - i).square().mean() for i, head in enumerate(model.heads)]
    rows = torch.stack([torch.autograd.grad(loss, hidden)[0].flatten() for loss in at])
    balancer = IMTLG(3)
    balancer.backward(model(x))
    torch.testing.assert_close(
        balancer.last.weights, IMTLG(3).weigh(torch.stack(at).detach(), Gradients(rows))
    )


def test_parameters_of_one_loss_receive_its_plain_gradient_unless_asked_otherwise():
    model, x = MultiHead(3), batch()
    heads = list(model.heads.parameters())
    sum(model(x)).backward()
    expected = flat_grad(heads)
    model.zero_grad()
    IMTLG(3).backward(model(x))
    torch.testing.assert_close(flat_grad(heads), expected)
    model.zero_grad()
    IMTLG(3, heads="weighted").backward(model(x))
    assert not torch.allclose(flat_grad(heads), expected)
