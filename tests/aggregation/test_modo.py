from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.modo import MoDo
from tests.aggregation.following import live
from tests.golden import assert_matches, load, tensor
from tests.models import MultiHead, batch, flat_grad, jacobian


@pytest.mark.parametrize(
    ("name", "gamma"), [("modo_libmtl", 0.001), ("modo_torchjd_2batches", 0.1)]
)
def test_weights_and_gradients_follow_the_references(name, gamma):
    golden = load(name)
    balancer, on_graph = MoDo(3, gamma=gamma), MoDo(3, gamma=gamma)
    for i, step in enumerate(golden.steps):
        batches = [tensor(rows) for rows in step["jacobians"]]
        last = batches[2] if len(batches) > 2 else (batches[0] + batches[1]) / 2
        values = torch.ones(3).double()
        for rows in batches[:2]:
            balancer.observe(Gradients(rows))
            on_graph.observe(live(values, rows)[0])
        weights = balancer.weigh(values, Gradients(last))
        assert_matches(golden, weights, step["weights"], f"step {i} weights")
        losses, theta = live(values, last)
        on_graph.backward(losses)
        assert_matches(golden, theta.grad, step["gradient"], f"step {i}")


def test_with_full_gradients_it_converges_to_the_minimum_norm_weights():
    gradients = Gradients(torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64))
    balancer = MoDo(2, rho=0.0)
    for _ in range(300):
        weights = balancer.weigh(torch.ones(2).double(), gradients)
    torch.testing.assert_close(weights, torch.tensor([0.8, 0.2]).double())


@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"rho": -1.0}])
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        MoDo(2, **options)


def test_a_losses_own_parameters_get_its_plain_gradient():
    model, x = MultiHead(4), batch()
    heads = list(model.heads.parameters())
    plain = jacobian(model(x), heads).sum(0)
    MoDo(4).backward(model(x))
    torch.testing.assert_close(flat_grad(heads), plain)
