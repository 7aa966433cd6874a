from __future__ import annotations

import statistics

import pytest
import torch

import equipoise as eq
from equipoise.gradients.gradients import Gradients
from tests.golden import tensor
from tests.methods import steps
from tests.models import MultiHead, batch, jacobian


def slow(rows, weights, alpha, above):
    """One update of the authors' script, in plain Python."""
    deviations = [statistics.stdev(row) for row in rows.tolist()]
    return [
        (1 - alpha) * weight + alpha * above(deviations) / deviation
        for weight, deviation in zip(weights, deviations, strict=True)
    ]


@pytest.mark.parametrize(
    ("options", "above"),
    [
        ({"reference": "c"}, lambda deviations: deviations[2]),
        ({"alpha": 0.1}, lambda deviations: deviations[0]),
        ({"numerator": "largest"}, max),
    ],
    ids=["reference", "alpha", "largest"],
)
def test_weights_follow_the_formula_over_a_training(options, above) -> None:
    balancer = eq.InverseDirichlet(["a", "b", "c"], **options)
    weights = [1.0, 1.0, 1.0]
    for values, rows in steps(12):
        weights = slow(rows, weights, options.get("alpha", 0.5), above)
        found = balancer.weigh(values, Gradients(rows, [3, 4]))
        torch.testing.assert_close(found, tensor(weights), rtol=1e-12, atol=0)


def test_live_losses_are_weighted_by_all_that_they_share() -> None:
    model = MultiHead(3)
    losses = model(batch())
    rows = jacobian(losses, list(model.trunk.parameters()))
    record = eq.InverseDirichlet(3, alpha=1.0).backward(losses)
    deviations = rows.std(dim=1)
    torch.testing.assert_close(record.weights, deviations[0] / deviations)


def test_by_the_largest_no_loss_counts_less_than_it_did() -> None:
    balancer = eq.InverseDirichlet(3, numerator="largest")
    for values, rows in steps(5):
        assert (balancer.weigh(values, Gradients(rows)) >= 1).all()


def test_a_gradient_of_equal_entries_leaves_its_weight_where_it_is() -> None:
    balancer = eq.InverseDirichlet(3)
    values = torch.ones(3, dtype=torch.float64)
    balancer.weigh(values, Gradients(tensor([[4.0, 0.0], [1.0, 2.0], [2.0, 0.0]])))
    weights = balancer.weigh(values, Gradients(tensor([[4.0, 0.0], [3.0, 3.0], [2.0, 0.0]])))
    torch.testing.assert_close(weights, tensor([1.0, 2.5, 1.75]))


@pytest.mark.parametrize(("numerator", "rests"), [("reference", True), ("largest", False)])
def test_without_the_reference_weights_rest_unless_it_is_the_largest_that_counts(
    numerator, rests
) -> None:
    balancer = eq.InverseDirichlet(["residual", "boundary", "initial"], numerator=numerator)
    theta = torch.ones(2, requires_grad=True)
    conditions = {"boundary": 3 * theta[0], "initial": theta[1] - theta[0]}
    before = balancer.backward({"residual": 4 * theta[0], **conditions}).weights
    after = balancer.backward(conditions).weights
    assert torch.equal(after[1:], before[1:]) == rests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "x"}, "`reference` is 'x'"),
        ({"alpha": 0.0}, "`alpha` is 0"),
        ({"numerator": "max"}, "`numerator` is 'max'; write 'reference' or 'largest'"),
    ],
)
def test_a_wrong_option_is_named(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        eq.InverseDirichlet(2, **options)
