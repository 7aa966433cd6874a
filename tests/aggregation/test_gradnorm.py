from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equipoise.aggregation.gradnorm import GradNorm
from equipoise.gradients.gradients import Gradients
from tests.golden import Golden, assert_matches, load, names, tensor
from tests.models import MultiHead, batch, jacobian


def follow(golden: Golden, balancer: GradNorm) -> None:
    for index, step in enumerate(golden.steps):
        gradients = Gradients(tensor(step["jacobian"]))
        weights = balancer.weigh(tensor(step["losses"]), gradients)
        assert_matches(golden, weights, step["weights"], f"step {index} weights")


def count(golden: Golden) -> int:
    return len(golden.steps[0]["losses"])


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("alpha", ["0p0", "0p12", "1p5"])
def test_weights_follow_algorithm_1(rule, alpha):
    golden = load(f"gradnorm_alg1_{rule}__alpha{alpha}")
    options = golden.hyperparameters
    balancer = GradNorm(count(golden), alpha=options["alpha"], lr=options["lr_w"], optimizer=rule)
    follow(golden, balancer)


@pytest.mark.parametrize("name", names("gradnorm_lucasbotang__*"))
def test_without_moments_the_weights_follow_the_code_of_LucasBoTang(name):
    golden = load(name)
    options = golden.hyperparameters
    follow(
        golden, GradNorm(count(golden), alpha=options["alpha"], lr=options["lr_w"], betas=(0, 0))
    )


@pytest.mark.parametrize("name", names("gradnorm_physicsnemo__*"))
def test_exponential_weights_follow_physicsnemo(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = GradNorm(
        count(golden),
        alpha=options["alpha"],
        lr=options["lr"],
        optimizer=options["optimizer"],
        parametrisation="exponential",
    )
    follow(golden, balancer)


@pytest.mark.parametrize("name", names("gradnorm_libmtl__*"))
def test_softmax_weights_follow_libmtl(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = GradNorm(
        count(golden),
        alpha=options["alpha"],
        lr=options["lr"],
        optimizer=options["optimizer"],
        parametrisation="softmax",
        warmup=options["epoch0_steps"],
    )
    follow(golden, balancer)


@pytest.mark.parametrize("name", names("gradnorm_covrepo__*"))
def test_clamped_weights_that_sum_to_one_follow_the_cov_weighting_code(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = GradNorm(
        count(golden),
        alpha=options["alpha"],
        lr=options["lr_w"],
        reduction="mean",
        floor=options["clamp_min"],
        total=options["sum"],
    )
    follow(golden, balancer)


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("gradnorm_lucidrains010__alpha1p5", 1),
        ("gradnorm_lucidrains__alpha0p0", -1),
        ("gradnorm_lucidrains__alpha0p12", -1),
        ("gradnorm_lucidrains__alpha1p5", -1),
    ],
)
def test_gradnorm_pytorch_computes_this_with_the_opposite_alpha_since_its_release_0_1_1(name, sign):
    golden = load(name)
    options = golden.hyperparameters
    balancer = GradNorm(
        count(golden),
        alpha=sign * options["alpha"],
        lr=options["lr_w"],
        optimizer="sgd",
        reduction="mean",
    )
    follow(golden, balancer)


def autograd_slopes(balancer: GradNorm, values: Tensor, norms: Tensor, numbers: Tensor) -> Tensor:
    """The gradient of L_grad with respect to the descended numbers, by autograd."""
    numbers = numbers.clone().requires_grad_()
    weights = {
        "direct": lambda: numbers,
        "exponential": numbers.exp,
        "softmax": lambda: len(values) * numbers.softmax(0),
    }[balancer.parametrisation]()
    rates = values / balancer.initial
    rates = rates / rates.mean()
    target = ((weights * norms).mean() * rates**balancer.alpha).detach()
    return torch.autograd.grad((weights * norms - target).abs().sum(), numbers)[0]


@pytest.mark.parametrize("parametrisation", ["direct", "exponential", "softmax"])
def test_a_step_descends_on_the_objective_as_autograd_differentiates_it(parametrisation):
    balancer = GradNorm(3, alpha=0.7, lr=0.01, optimizer="sgd", parametrisation=parametrisation)
    first, values = torch.rand(2, 3, dtype=torch.float64) + 0.5
    matrices = torch.randn(2, 3, 4, dtype=torch.float64)
    before = balancer.weigh(first, Gradients(matrices[0])).clone()
    numbers = before if parametrisation == "direct" else before.log()
    slopes = autograd_slopes(balancer, values, matrices[1].norm(dim=1), numbers)
    moved = numbers - 0.01 * slopes
    expected = moved / moved.sum() if parametrisation == "direct" else moved.softmax(0)
    torch.testing.assert_close(balancer.weigh(values, Gradients(matrices[1])), 3 * expected)


def test_the_loss_that_has_fallen_less_gets_the_larger_weight():
    balancer = GradNorm(2, alpha=1.5, lr=0.01)
    equal = Gradients(torch.eye(2, dtype=torch.float64))
    balancer.weigh(tensor([1.0, 1.0]), equal)
    for _ in range(10):
        weights = balancer.weigh(tensor([0.9, 0.1]), equal)
    assert weights[0] > 1.05
    assert weights[1] < 0.95


def test_the_norms_are_those_of_the_last_shared_layer():
    model = MultiHead(heads=2)
    losses = model(batch())
    last = list(model.trunk[2].parameters())
    expected = jacobian(losses, last).norm(dim=1)
    record = GradNorm(2).backward(losses)
    torch.testing.assert_close(record.norms, expected)


def test_a_negative_weight_is_raised_to_the_floor():
    gradients = Gradients(tensor([[100.0], [0.01]]))
    options = {"lr": 1.0, "optimizer": "sgd", "alpha": 0.0}
    letter = GradNorm(2, floor=None, **options)
    assert letter.weigh(tensor([1.0, 1.0]), gradients).min() < 0
    weights = GradNorm(2, floor=0.0, **options).weigh(tensor([1.0, 1.0]), gradients)
    torch.testing.assert_close(weights, tensor([0.0, 2.0]))


@pytest.mark.parametrize("lr", [0.025, 0.2])
@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4])
def test_by_default_weights_stay_positive_and_bounded(lr, ratio):
    balancer = GradNorm(10, lr=lr)
    scales = torch.logspace(0, 1, 10, base=ratio).double()
    for step in range(300):
        values = torch.rand(10).double() * 0.99**step
        weights = balancer.weigh(values, Gradients(scales[:, None] * torch.randn(10, 6).double()))
        assert weights.min() > 0
        torch.testing.assert_close(weights.sum(), tensor(10.0))


def test_the_letter_of_algorithm_1_descends_on_the_norms_of_negative_weights_too():
    balancer = GradNorm(2, alpha=0.0, lr=0.01, optimizer="sgd", floor=None)
    values, gradients = tensor([1.0, 1.0]), Gradients(torch.eye(2).double())
    balancer.weigh(values, gradients)
    balancer.loss_weights = tensor([-0.5, 2.5])
    # |w| n are 0.5 and 2.5 around their mean of 1.5: the first norm grows, the second falls.
    moved = tensor([-0.51, 2.49])
    torch.testing.assert_close(balancer.weigh(values, gradients), moved * 2 / moved.sum())


@pytest.mark.parametrize(("below", "sign"), [(2e-4, 1), (-2e-4, -1)])
def test_alpha_is_exact_to_a_thousandth(below, sign):
    balancer = GradNorm(2, lr=1e-3, optimizer="sgd", floor=None)
    balancer.weigh(tensor([1.0, 1.0]), Gradients(torch.eye(2).double()))
    # Rates of 1/2 and 3/2; the first norm lies this part below or above its target, 0.5^1.5.
    norm = 0.5**1.5 * (1 - below)
    gradients = Gradients(torch.diag(tensor([norm, 2 - norm])))
    moved = tensor([1 + 1e-3 * sign * norm, 1 + 1e-3 * (2 - norm)])
    weights = balancer.weigh(tensor([0.5, 1.5]), gradients)
    torch.testing.assert_close(weights, moved * 2 / moved.sum())


@pytest.mark.parametrize("parametrisation", ["exponential", "softmax"])
def test_a_weight_that_underflowed_stops_no_later_step(parametrisation):
    balancer = GradNorm(2, optimizer="sgd", lr=1.0, parametrisation=parametrisation)
    for _ in range(3):
        weights = balancer.weigh(tensor([1.0, 1.0]), Gradients(tensor([[1e15], [1.0]])))
        assert weights.isfinite().all()
        assert balancer.skipped.sum() == 0


def test_losses_that_reach_exactly_zero_leave_finite_weights():
    balancer = GradNorm(2)
    for values in ([1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.5]):
        weights = balancer.weigh(tensor(values), Gradients(torch.randn(2, 3).double()))
        assert weights.isfinite().all()
        assert balancer.skipped.sum() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parametrisation": "log"}, "'exponential'"),
        ({"reduction": "max"}, "'mean'"),
        ({"floor": -0.1}, "`floor` is -0.1"),
        ({"total": 0.0}, "`total` is 0.0"),
        ({"lr": 0.0}, "`lr` is 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GradNorm(2, **options)
