from __future__ import annotations

import pytest
import torch

import equipoise as eq
from tests.integrations.loops import balancer_of, difference
from tests.methods import NAMES, make, of_kind

pytest.importorskip("deepxde")

import deepxde as dde

from equipoise.integrations.deepxde import Balance

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def problem(optimizer="adam", **options):
    """u'' = -pi^2 sin(pi x) on [-1, 1] with two boundary conditions: three losses."""
    dde.config.set_random_seed(0)
    line = dde.geometry.Interval(-1, 1)

    def residual(x, u):
        return dde.grad.hessian(u, x) + torch.pi**2 * torch.sin(torch.pi * x)

    zero = lambda x: 0 * x  # noqa: E731
    left = dde.icbc.DirichletBC(line, zero, lambda x, on: on and x[0] < 0)
    right = dde.icbc.DirichletBC(line, zero, lambda x, on: on and x[0] > 0)
    data = dde.data.PDE(line, residual, [left, right], num_domain=8, num_boundary=2)
    model = dde.Model(data, dde.nn.FNN([1, 10, 10, 1], "tanh", "Glorot normal"))
    model.compile(optimizer, verbose=0, **({"lr": 1e-3} if optimizer == "adam" else {}), **options)
    return model


def train(model, *callbacks, iterations=3):
    model.train(iterations=iterations, callbacks=list(callbacks), display_every=1000, verbose=0)
    return model.net


@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_as_in_a_loop_of_ones_own(name) -> None:
    found = train(problem(), Balance(balancer_of(name)))
    model, balancer = problem(), balancer_of(name)
    model.train_state.set_data_train(*model.data.train_next_batch())
    for _ in range(3):
        state = model.train_state
        losses = model.outputs_losses_train(state.X_train, state.y_train, state.train_aux_vars)[1]
        model.opt.zero_grad()
        balancer.backward(losses)
        model.opt.step()
    assert difference(model.net, found) == 0


def test_equal_weights_train_as_deepxde_does() -> None:
    assert difference(train(problem()), train(problem(), Balance(eq.Equal(3)))) < 1e-7


@pytest.mark.parametrize("name", ["gradnorm", "softadapt", "mgda"])
def test_weights_stand_still_inside_a_step_of_lbfgs_and_are_carried_over_from_adam(
    name, monkeypatch
) -> None:
    monkeypatch.setitem(dde.optimizers.LBFGS_options, "maxiter", 12)
    monkeypatch.setitem(dde.optimizers.LBFGS_options, "iter_per_step", 6)
    seen = []

    class Watching(Balance):
        def _step(self, *batch) -> None:
            before = int(self.balancer.state_dict()["calls"])
            super()._step(*batch)
            seen.append(int(self.balancer.state_dict()["calls"]) - before)

    model, balance = problem(), Watching(balancer_of(name))
    train(model, balance)
    model.compile("L-BFGS", verbose=0)
    before = sum(p.detach().abs().sum() for p in model.net.parameters())
    train(model, balance, iterations=None)
    assert seen == [1, 1, 1, 1, 1]
    assert sum(p.detach().abs().sum() for p in model.net.parameters()) != before


def test_lbfgs_lowers_the_balanced_loss(monkeypatch) -> None:
    monkeypatch.setitem(dde.optimizers.LBFGS_options, "maxiter", 30)
    monkeypatch.setitem(dde.optimizers.LBFGS_options, "iter_per_step", 30)
    model, balancer = problem("L-BFGS"), eq.Fixed(3, weights=[1.0, 10.0, 10.0])
    train(model, Balance(balancer), iterations=None)
    history = [losses @ [1.0, 10.0, 10.0] for losses in model.losshistory.loss_train]
    assert history[-1] < 0.05 * history[0]


@pytest.mark.parametrize("name", ["equal", "config", "imtlg", "alignedmtl"])
def test_lbfgs_sees_a_value_and_the_gradient_of_that_value(name) -> None:
    model, balancer = problem("L-BFGS"), balancer_of(name)
    coefficient, residual = dde.Variable(2.0), model.data.pde
    model.data.pde = lambda x, u: coefficient * residual(x, u)
    closures = []
    model.train_state.set_data_train(*model.data.train_next_batch())
    state = model.train_state
    batch = (state.X_train, state.y_train, state.train_aux_vars)
    model.opt.step = closures.append
    balance = Balance(balancer)
    balance.set_model(model)
    balance._step(*batch)
    value = closures[0]()
    losses = model.outputs_losses_train(*batch)[1]
    weighted = balancer.last.weights @ losses
    torch.testing.assert_close(value, weighted)
    leaves = [coefficient, *model.net.parameters()]
    for leaf, expected in zip(leaves, torch.autograd.grad(weighted, leaves), strict=True):
        torch.testing.assert_close(leaf.grad, expected)


def test_lbfgs_trains_while_a_schedule_leaves_a_loss_out() -> None:
    model = problem("L-BFGS")
    before = [p.detach().clone() for p in model.net.parameters()]
    balancer = eq.Equal(3, priorities=[eq.Ramp(0, 1, 1000), 1.0, 1.0])
    train(model, Balance(balancer), iterations=None)
    after = list(model.net.parameters())
    assert all(p.isfinite().all() for p in after)
    assert any((p != q).any() for p, q in zip(before, after, strict=True))


@pytest.mark.parametrize("name", of_kind(weighting=False))
def test_lbfgs_refuses_a_method_without_a_loss(name) -> None:
    with pytest.raises(TypeError, match="is no weighting of the losses"):
        train(problem("L-BFGS"), Balance(balancer_of(name)))


def test_after_training_the_model_is_deepxdes_again() -> None:
    model = problem()
    before = model.train_step
    train(model, Balance(eq.GradNorm(3)))
    assert model.train_step is before


class Interrupt(dde.callbacks.Callback):
    """Ctrl-C, after the second step."""

    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_epoch_end(self):
        self.epochs += 1
        if self.epochs == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("again", [False, True])
def test_a_training_after_one_that_was_interrupted_balances_only_if_it_is_asked_to(again) -> None:
    model, balance = problem(), Balance(eq.Fixed(3, [0.0, 5.0, 1.0]))
    with pytest.raises(KeyboardInterrupt):
        train(model, balance, Interrupt(), iterations=5)
    learned = balance.balancer.weight_count.clone()
    callbacks = [balance] if again else []
    before = [p.detach().clone() for p in model.net.parameters()]
    train(model, *callbacks)
    assert any((p != q).any() for p, q in zip(before, model.net.parameters(), strict=True))
    assert torch.equal(balance.balancer.weight_count - learned, torch.full((3,), 3.0 * again))
    train(model)
    assert torch.equal(balance.balancer.weight_count - learned, torch.full((3,), 3.0 * again))


OPTIMIZERS = [eq.MTAdam, eq.AutoBalance]


def with_optimizer(kind, *extra, **options):
    """The same problem; the optimizer is the one that balances."""
    model = problem()
    optimizer = kind([*model.net.parameters(), *extra], lr=1e-2)
    model.compile(optimizer, verbose=0, **options)
    return model, optimizer


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_of_several_losses_trains_as_in_a_loop_of_ones_own(kind) -> None:
    model, optimizer = with_optimizer(kind)
    found = train(model, Balance(optimizer))
    model, optimizer = with_optimizer(kind)
    model.train_state.set_data_train(*model.data.train_next_batch())
    for _ in range(3):
        state = model.train_state
        losses = model.outputs_losses_train(state.X_train, state.y_train, state.train_aux_vars)[1]
        optimizer.zero_grad()
        optimizer.backward(losses)
        optimizer.step()
    assert difference(model.net, found) == 0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_of_several_losses_finds_a_coefficient(kind) -> None:
    coefficient = dde.Variable(2.0)
    model, optimizer = with_optimizer(kind, coefficient, external_trainable_variables=coefficient)
    residual = model.data.pde
    model.data.pde = lambda x, u: (coefficient - 1) * residual(x, u).detach() + residual(x, u)
    train(model, Balance(optimizer), iterations=20)
    assert 1.7 < coefficient.item() < 1.9


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_decay_of_compile_reaches_an_optimizer_of_several_losses(kind) -> None:
    model, optimizer = with_optimizer(kind, decay=("step", 1, 0.5))
    train(model, Balance(optimizer))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 / 8)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_saved_model_goes_on_bit_for_bit(kind, tmp_path) -> None:
    model, optimizer = with_optimizer(kind)
    train(model, Balance(optimizer))
    path = model.save(str(tmp_path / "model"))
    expected = train(model, Balance(optimizer))
    again, optimizer = with_optimizer(kind)
    again.restore(path)
    assert difference(train(again, Balance(optimizer)), expected) == 0


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_that_leaves_something_untrained_is_refused(kind) -> None:
    coefficient = dde.Variable(2.0)
    model, optimizer = with_optimizer(kind, external_trainable_variables=coefficient)
    with pytest.raises(ValueError, match=r"would not train 1 tensors .* shapes \[\(\)\]"):
        train(model, Balance(optimizer))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_weights_that_would_be_cancelled_are_refused(kind) -> None:
    model, optimizer = with_optimizer(kind, loss_weights=[1, 10, 10])
    with pytest.raises(ValueError, match=r"`loss_weights` is \[1, 10, 10\].*ranks"):
        train(model, Balance(optimizer))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_of_several_losses_stands_in_both_places(kind) -> None:
    model, _ = with_optimizer(kind)
    with pytest.raises(
        TypeError, match=r"balances the losses itself; write `Balance\(optimizer\)`"
    ):
        train(model, Balance(eq.Equal(3)))
    other = problem()
    with pytest.raises(TypeError, match=r"given 'adam'.*`model\.compile\(optimizer\)`"):
        train(other, Balance(kind(other.net.parameters())))


@pytest.mark.parametrize("name", ["gradnorm", "softadapt", "mgda"])
def test_loss_weights_of_deepxde_are_priorities(name) -> None:
    weighted = train(problem(loss_weights=[1.0, 10.0, 5.0]), Balance(balancer_of(name)))
    torch.manual_seed(7)
    balancer = make(name, priorities=[1.0, 10.0, 5.0])
    assert difference(weighted, train(problem(), Balance(balancer))) < 1e-6


@pytest.mark.parametrize(
    "balancer",
    [
        eq.FirstValue(3),
        eq.GradNorm(3, scale="first_value"),
        eq.Primary(eq.Equal(["a", "b", "c"], scale="first_value"), "a"),
    ],
)
def test_loss_weights_that_would_be_divided_out_are_refused(balancer) -> None:
    with pytest.raises(ValueError, match=r"`loss_weights` is \[1.0, 10.0, 5.0\].*`priorities`"):
        train(problem(loss_weights=[1.0, 10.0, 5.0]), Balance(balancer))
