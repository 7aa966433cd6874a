from __future__ import annotations

import pytest
import torch

from equipoise.optim import AutoBalance, MultiAdam
from tests.optim.training import TwoHeads, assert_equal_models, batches, train


class SlowMultiAdam:
    """The algorithm line by line, of whole gradients in one vector, with the code's L2 penalty."""

    def __init__(self, theta, weights, lr=1e-3, betas=(0.99, 0.99), eps=1e-8, weight_decay=0.0):
        self.theta = theta.clone()
        self.weights, self.lr, self.eps, self.decay = weights, lr, eps, weight_decay
        self.betas, self.t = betas, 0
        self.m = [torch.zeros_like(theta) for _ in weights]
        self.v = [torch.zeros_like(theta) for _ in weights]

    def step(self, gradients):
        self.t += 1
        (beta1, beta2), update = self.betas, torch.zeros_like(self.theta)
        for i, gradient in enumerate(gradients):
            g = gradient + self.decay * self.theta
            self.m[i] = beta1 * self.m[i] + (1 - beta1) * g
            self.v[i] = beta2 * self.v[i] + (1 - beta2) * g * g
            m_hat = self.m[i] / (1 - beta1**self.t)
            v_hat = self.v[i] / (1 - beta2**self.t)
            update += self.weights[i] * m_hat / (v_hat.sqrt() + self.eps)
        self.theta = self.theta - self.lr * update


def flat(parameters):
    return torch.cat([p.detach().flatten() for p in parameters])


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
@pytest.mark.parametrize("foreach", [False, True], ids=["tensor by tensor", "packed"])
@pytest.mark.parametrize(
    "options",
    [{}, {"lr": 0.05, "betas": (0.9, 0.999), "eps": 1e-4}, {"weight_decay": 0.3}],
    ids=str,
)
@pytest.mark.parametrize("weights", [None, [0.8, 0.2], {"left": 3.0, "right": 0.0}], ids=str)
def test_a_training_follows_the_algorithm(weights, options, foreach, on_device) -> None:
    model = TwoHeads()
    parameters = list(model.parameters())
    path = {"foreach": foreach, "on_device": on_device}
    optimizer = MultiAdam(parameters, group_weights=weights, **options, **path)
    numbers = [0.5, 0.5] if weights is None else weights
    numbers = list(numbers.values()) if isinstance(numbers, dict) else numbers
    slow = SlowMultiAdam(flat(parameters), numbers, **options)
    for x in batches(15):
        losses = model(x)
        gradients = [
            torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            for loss in losses.values()
        ]
        slow.step([flat(of_loss) for of_loss in gradients])
        optimizer.zero_grad()
        optimizer.backward(losses)
        optimizer.step()
    torch.testing.assert_close(flat(parameters), slow.theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.3, "betas": (0.8, 0.99)}], ids=str)
def test_with_one_loss_it_is_adam(options) -> None:
    ours, theirs = TwoHeads(), TwoHeads()
    optimizer = MultiAdam(ours.parameters(), lr=0.01, **options)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, **{"betas": (0.99, 0.99), **options})
    for x in batches(20):
        optimizer.backward([ours(x)["left"]])
        optimizer.step()
        adam.zero_grad()
        theirs(x)["left"].backward()
        adam.step()
    assert_equal_models(ours, theirs, rtol=1e-12, atol=1e-14)


def test_autobalance_with_its_weights_is_the_same() -> None:
    ours, theirs = TwoHeads(), TwoHeads()
    options = {"betas": (0.99, 0.99), "weight_decay": 0.0}
    train(ours, MultiAdam(ours.parameters(), lr=0.01), batches(5))
    weights = {"left": 0.5, "right": 0.5}
    optimizer = AutoBalance(theirs.parameters(), lr=0.01, weights=weights, **options)
    train(theirs, optimizer, batches(5))
    assert_equal_models(ours, theirs)


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_autobalance_weighs_the_decay_of_a_loss_with_its_update(on_device) -> None:
    model, x = TwoHeads(), batches(1)[0]
    before = model.left.weight.detach().clone()
    options = {"lr": 0.1, "weight_decay": 0.5, "on_device": on_device}
    optimizer = AutoBalance(model.parameters(), weights=[0.0, 3.0], **options)
    optimizer.backward(model(x))  # the right loss does not reach the left head: decay alone
    optimizer.step()
    torch.testing.assert_close(model.left.weight.detach(), before * (1 - 0.1 * 0.5 * 3.0))


def test_saved_and_loaded_it_goes_on() -> None:
    straight, broken = TwoHeads(), TwoHeads()
    options = {"lr": 0.01, "group_weights": [0.9, 0.1], "weight_decay": 0.1}
    train(straight, MultiAdam(straight.parameters(), **options), batches(6))
    first = MultiAdam(broken.parameters(), **options)
    train(broken, first, batches(6)[:3])
    second = MultiAdam(broken.parameters(), losses=["left", "right"], **options)
    second.load_state_dict(first.state_dict())
    train(broken, second, batches(6)[3:])
    assert_equal_models(straight, broken)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (MultiAdam, {"group_weights": [1.0, -1.0]}, "`group_weights` of loss '1' is -1.0"),
        (MultiAdam, {"group_weights": {"x": 1.0}}, "`group_weights` has the unknown name 'x'"),
        (AutoBalance, {"weights": [1.0]}, "`weights`"),
        (MultiAdam, {"betas": (0.9, 1.0)}, r"such as \(0.99, 0.99\)"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(kind, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        kind([torch.ones(2).requires_grad_()], losses=2, **options)
