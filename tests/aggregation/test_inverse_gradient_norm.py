from __future__ import annotations

import pytest
import torch

from equipoise.aggregation.inverse_gradient_norm import InverseGradientNorm
from equipoise.gradients.gradients import Gradients
from tests.golden import assert_matches, load, names, tensor
from tests.models import MultiHead, batch, jacobian


@pytest.mark.parametrize("name", names("gradnorm_weighting_jaxpi__*"))
def test_weights_follow_jaxpi(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = InverseGradientNorm(
        options["T"],
        momentum=options["momentum"],
        initial=options["w0"],
        eps=options["eps_rel"],
    )
    for index, step in enumerate(golden.steps):
        weights = balancer.weigh(tensor(step["losses"]), Gradients(tensor(step["jacobian"])))
        assert_matches(golden, weights, step["weights"], f"step {index}")


def test_without_momentum_the_applied_gradients_have_equal_norms():
    model = MultiHead(heads=3)
    losses = model(batch())
    rows = jacobian(losses, list(model.trunk.parameters()))
    weights = InverseGradientNorm(3, momentum=0.0, eps=1e-12).backward(losses).weights
    torch.testing.assert_close(weights * rows.norm(dim=1), rows.norm(dim=1).mean().expand(3))


def test_initial_weights_are_applied_before_the_first_step():
    balancer = InverseGradientNorm(["residual", "data"], initial={"residual": 1.0, "data": 10.0})
    assert balancer.weights == {"residual": 1.0, "data": 10.0}


def test_initial_weights_keep_the_precision_of_the_values():
    balancer = InverseGradientNorm(2, initial=[0.1, 0.3], momentum=0.9)
    weights = balancer.weigh(tensor([1.0, 1.0]), Gradients(torch.zeros(2, 2).double()))
    torch.testing.assert_close(weights, tensor([0.19, 0.37]), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("options", "message"), [({"momentum": 1.0}, "`momentum` is 1"), ({"eps": 0.0}, "`eps` is 0")]
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        InverseGradientNorm(2, **options)
