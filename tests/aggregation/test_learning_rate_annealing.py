from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equipoise.aggregation.learning_rate_annealing import LearningRateAnnealing
from equipoise.gradients.gradients import Gradients
from tests.golden import Golden, assert_matches, load, names, tensor

PAPER = {"pooling": "elements", "denominator": "plain"}


def follow(golden: Golden, balancer: LearningRateAnnealing) -> None:
    for index, step in enumerate(golden.steps):
        rows = tensor(step["jacobian"])
        gradients = Gradients(rows, golden.hyperparameters.get("tensor_sizes"))
        weights = balancer.weigh(torch.ones(len(rows), dtype=torch.float64), gradients)
        assert_matches(golden, weights, step["weights"], f"step {index}")


def live(step) -> tuple[Tensor, list[Tensor]]:
    """Losses of a graph with exactly the step's values and gradients."""
    theta = torch.zeros(len(step["jacobian"][0]), dtype=torch.float64, requires_grad=True)
    rows, values = tensor(step["jacobian"]), tensor(step["losses"])
    return theta, [value + row @ theta for value, row in zip(values, rows, strict=True)]


@pytest.mark.parametrize("name", names("lr_annealing_config__*"))
def test_the_papers_maximum_over_mean_follows_configs_code(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = LearningRateAnnealing(options["T"], alpha=1 - options["beta"], **PAPER)
    follow(golden, balancer)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("lr_annealing_wang__helmholtz", "layer_means"),
        ("lr_annealing_wang__klein_gordon", "layer_means"),
        ("lr_annealing_wang__ns", "layer_ratios"),
    ],
)
def test_weighted_denominators_by_layer_follow_the_authors_scripts(name, pooling):
    golden = load(name)
    options = golden.hyperparameters
    balancer = LearningRateAnnealing(
        options["T"], alpha=1 - options["beta"], pooling=pooling, denominator="weighted"
    )
    follow(golden, balancer)


@pytest.mark.parametrize("name", names("lr_annealing_rbischof__*"))
def test_mean_over_mean_follows_the_code_of_relobralos_authors(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = LearningRateAnnealing(
        options["T"], alpha=1 - options["alpha"], numerator="mean", eps=options["eps"], **PAPER
    )
    follow(golden, balancer)


@pytest.mark.parametrize("name", names("lr_annealing_physicsnemo__*"))
def test_mean_over_mean_through_backward_follows_physicsnemo(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = LearningRateAnnealing(
        options["T"],
        reference=str(options["ref_index"]),
        alpha=options["alpha"],
        numerator="mean",
        reference_weight="averaged",
        eps=options["eps"],
        every=options["update_freq"],
        **PAPER,
    )
    for index, step in enumerate(golden.steps):
        theta, losses = live(step)
        record = balancer.backward(losses, wrt=theta)
        assert_matches(golden, record.weights, step["weights"], f"step {index} weights")
        assert_matches(golden, theta.grad, step["gradient"], f"step {index} gradient")


def test_a_gradient_of_zero_leaves_its_weight_where_it_is():
    balancer = LearningRateAnnealing(3, alpha=0.5, **PAPER)
    values = torch.ones(3, dtype=torch.float64)
    balancer.weigh(values, Gradients(tensor([[4.0, 0.0], [1.0, 1.0], [2.0, 2.0]])))
    weights = balancer.weigh(values, Gradients(tensor([[4.0, 0.0], [0.0, 0.0], [2.0, 2.0]])))
    torch.testing.assert_close(weights, tensor([1.0, 2.5, 1.75]))


def test_weights_rest_while_the_reference_is_absent():
    balancer = LearningRateAnnealing(["residual", "boundary", "initial"], alpha=0.5)
    theta = torch.ones(2, requires_grad=True)
    losses = {"residual": 4 * theta[0], "boundary": theta.sum(), "initial": 2 * theta.sum()}
    before = balancer.backward(losses).weights
    losses = {"boundary": 9 * theta.sum(), "initial": 2 * theta.sum()}
    after = balancer.backward(losses).weights
    torch.testing.assert_close(after[1:], before[1:])


def test_the_papers_weight_settles_where_the_gradients_balance():
    balancer = LearningRateAnnealing(2, alpha=0.3, **PAPER)
    gradients = Gradients(tensor([[6.0, 0.0], [1.0, 2.0]]))
    for _ in range(100):
        weights = balancer.weigh(tensor([1.0, 1.0]), gradients)
    torch.testing.assert_close(weights, tensor([1.0, 6.0 / 1.5]))


def test_the_defaults_are_the_authors_code_for_helmholtz():
    golden = load("lr_annealing_wang__helmholtz")
    follow(golden, LearningRateAnnealing(golden.hyperparameters["T"]))


def test_by_default_the_weight_settles_at_the_root_of_the_ratio():
    balancer = LearningRateAnnealing(2, alpha=0.3)
    gradients = Gradients(tensor([[6.0, 0.0], [1.0, 2.0]]))
    for _ in range(100):
        weights = balancer.weigh(tensor([1.0, 1.0]), gradients)
    torch.testing.assert_close(weights, tensor([1.0, (6.0 / 1.5) ** 0.5]))


def largest_weight(**options):
    """Residual and boundary pull at one number, which rests where the weighted sum is lowest."""
    balancer, weight = LearningRateAnnealing(["residual", "boundary"], **options), 1.0
    for _ in range(200):
        rests = 1 / (1 + weight)
        rows = torch.zeros(2, 4).double()
        rows[:, 0] = torch.tensor([rests - 1, rests])
        weight = float(balancer.weigh(torch.ones(2).double(), Gradients(rows))[1])
    return weight


def test_a_boundary_that_is_met_does_not_feed_its_own_weight():
    assert largest_weight(**PAPER) > 1e7
    assert largest_weight() < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "x"}, "`reference` is 'x'"),
        ({"alpha": 0.0}, "`alpha` is 0"),
        ({"eps": -1.0}, "`eps` is -1"),
        ({"numerator": "min"}, "'max' or 'mean'"),
        ({"pooling": "layers"}, "'layer_means'"),
        ({"denominator": "scaled"}, "'weighted'"),
        ({"reference_weight": "free"}, "'averaged'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LearningRateAnnealing(2, **options)
