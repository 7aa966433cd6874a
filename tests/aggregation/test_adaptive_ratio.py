from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.aggregation.adaptive_ratio import AdaptiveRatio
from equipoise.gradients.gradients import Gradients
from tests.golden import tensor

ONES = tensor([1.0, 1.0])


class Autoencoder(nn.Module):
    """A generator with a last layer, a discriminator on its output, and a loss before it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 3)
        self.decoder = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        self.double()

    def forward(self, x):
        code = self.encoder(x)
        image = self.decoder(code)
        return {
            "reconstruction": (image - x).abs().mean(),
            "codebook": code.square().mean(),
            "adversarial": -self.discriminator(image).mean(),
        }


def ratio(losses, last):
    """The slow way, from the formula: norms at the last layer, one loss at a time."""
    target, adversarial = (
        torch.cat([g.flatten() for g in torch.autograd.grad(losses[n], last, retain_graph=True)])
        for n in ("reconstruction", "adversarial")
    )
    return (target.norm() / (adversarial.norm() + 1e-4)).clamp(max=1e4)


def test_the_adversarial_weight_is_the_ratio_of_norms_at_the_decoders_last_layer():
    model, x = Autoencoder(), torch.randn(7, 4, dtype=torch.float64)
    losses = model(x)
    weight = 0.8 * ratio(losses, list(model.decoder[2].parameters()))
    expected = losses["reconstruction"] + losses["codebook"] + weight * losses["adversarial"]
    awaited = torch.autograd.grad(expected, list(model.parameters()), retain_graph=True)
    record = AdaptiveRatio(list(losses), ratio=0.8).backward(losses)
    torch.testing.assert_close(record.weights, torch.stack([*ONES, weight]))
    torch.testing.assert_close([p.grad for p in model.parameters()], list(awaited))


def test_a_single_parameter_can_be_watched_as_in_the_authors_code():
    model, x = Autoencoder(), torch.randn(7, 4, dtype=torch.float64)
    losses = model(x)
    last = model.decoder[2].weight
    weight = ratio(losses, [last])
    record = AdaptiveRatio(list(losses), wrt=last).backward(losses)
    torch.testing.assert_close(record.weights[2], weight)


def test_the_ratio_is_clamped_and_a_zero_gradient_divides_nothing():
    balancer = AdaptiveRatio(2, max_ratio=50.0)
    weights = balancer.weigh(ONES, Gradients(tensor([[3.0, 4.0], [0.0, 0.0]])))
    assert weights.tolist() == [1.0, 50.0]
    weights = balancer.weigh(ONES, Gradients(tensor([[0.0, 0.0], [3.0, 4.0]])))
    assert weights.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("every", [1, 2])
def test_the_adversarial_loss_waits_for_its_start_which_is_saved(every):
    options = {"start": 4, "every": every}
    model, x = Autoencoder(), torch.randn(7, 4, dtype=torch.float64)
    names = ["reconstruction", "codebook", "adversarial"]
    balancer = AdaptiveRatio(names, **options)
    assert balancer.weights["adversarial"] == 0
    seen = []
    for step in range(6):
        if step == 3:
            resumed = AdaptiveRatio(names, **options)
            resumed.load_state_dict(balancer.state_dict())
            balancer = resumed
        seen.append(float(balancer.backward(model(x)).weights[2]) > 0)
    assert seen == [False] * 4 + [True] * 2


def test_losses_are_chosen_by_name():
    balancer = AdaptiveRatio(["gan", "pixel"], target="pixel", adversarial="gan")
    weights = balancer.weigh(ONES, Gradients(tensor([[0.0, 1.0], [3.0, 4.0]])))
    torch.testing.assert_close(weights, tensor([5.0 / 1.0001, 1.0]))


def test_the_weight_stays_while_the_target_is_absent():
    model, x = Autoencoder(), torch.randn(7, 4, dtype=torch.float64)
    balancer = AdaptiveRatio(["reconstruction", "codebook", "adversarial"])
    before = balancer.backward(model(x)).weights
    after = balancer.backward({**model(x), "reconstruction": None}).weights
    torch.testing.assert_close(after[1:], before[1:])


def test_steps_without_the_adversarial_loss_count_towards_its_start():
    model, x = Autoencoder(), torch.randn(7, 4, dtype=torch.float64)
    balancer = AdaptiveRatio(["reconstruction", "codebook", "adversarial"], start=2)
    for _ in range(2):
        balancer.backward({**model(x), "adversarial": None})
    assert balancer.backward(model(x)).weights[2] > 0


def test_without_the_third_loss_the_weight_is_the_same():
    model, x = Autoencoder(), torch.randn(7, 4, dtype=torch.float64)
    balancer = AdaptiveRatio(["reconstruction", "codebook", "adversarial"])
    three = balancer.backward(model(x)).weights
    two = balancer.backward({**model(x), "codebook": None}).weights
    torch.testing.assert_close(two[2], three[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "b"}, "both 'b'"),
        ({"adversarial": "x"}, "`adversarial` is 'x'"),
        ({"start": -1}, "`start` is -1"),
        ({"max_ratio": -1.0}, "`max_ratio` is -1"),
        ({"eps": 0.0}, "`eps` is 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveRatio(["a", "b"], **options)
