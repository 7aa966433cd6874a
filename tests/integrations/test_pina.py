from __future__ import annotations

import warnings

import pytest
import torch

import equipoise as eq
from tests.integrations.loops import difference
from tests.methods import OPTIONS, of_kind

pytest.importorskip("pina")

with warnings.catch_warnings():  # PINA sets filters of its own on import
    warnings.simplefilter("ignore")
    from pina import LabelTensor, Trainer
    from pina.optim import TorchOptimizer
    from pina.problem.zoo import Poisson2DSquareProblem
    from pina.solver import PhysicsInformedSingleModelSolver

    from equipoise.integrations.pina import BalancedWeighting

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's and PINA's own

NAMES = ["boundary", "D"]
# Those that must be told something from outside.
TOLD = ("fixed", "dynamictaskprioritization", "ntktrace")


def problem():
    torch.manual_seed(0)
    made = Poisson2DSquareProblem()
    made.discretise_domain(8, "grid", domains="D")
    made.discretise_domain(2, "grid", domains="boundary")
    return made


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        )

    def forward(self, x):
        return self.layers(x)


def trainer(solver, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"logger": False, "enable_checkpointing": False, "max_epochs": 3}
    return Trainer(solver, **{**quiet, **options})


def solver_of(balancer, optimizer=torch.optim.SGD, **settings):
    weighting = None if balancer is None else BalancedWeighting(balancer)
    chosen = TorchOptimizer(optimizer, **(settings or {"lr": 1e-3}))
    return PhysicsInformedSingleModelSolver(
        problem(), Network(), optimizer=chosen, weighting=weighting
    )


def balancer_of(name):
    torch.manual_seed(7)
    return eq.create_balancer(name, NAMES, **OPTIONS.get(name, {}))


def by_hand(balancer):
    """The same training without PINA."""
    made, network = problem(), Network()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    inside = made.discretised_domains["D"].as_subclass(torch.Tensor).requires_grad_()
    walls = made.discretised_domains["boundary"].as_subclass(torch.Tensor)
    source = 2 * torch.pi**2 * torch.sin(torch.pi * inside.detach()).prod(dim=1)
    for _ in range(3):
        (slope,) = torch.autograd.grad(network(inside).sum(), inside, create_graph=True)
        bends = [
            torch.autograd.grad(slope[:, i].sum(), inside, create_graph=True)[0][:, i]
            for i in range(2)
        ]
        residual = sum(bends) - source
        optimizer.zero_grad()
        losses = {"D": residual.square().mean(), "boundary": network(walls).square().mean()}
        # The residual lacks the last bias, whose gradient one scalar weighs whatever `heads` is.
        balancer(losses).backward() if balancer.weighting else balancer.backward(losses)
        optimizer.step()
    return network


@pytest.mark.parametrize("name", [name for name in eq.list_balancers() if name not in TOLD])
def test_every_method_trains_as_in_a_plain_loop(name) -> None:
    balancer = balancer_of(name)
    solver = solver_of(balancer)
    trainer(solver).train()
    assert difference(by_hand(balancer_of(name)), solver.model) < 1e-5
    assert solver.weighting.last_saved_weights().keys() == set(NAMES)


def test_equal_weights_are_what_pina_does_without_a_weighting() -> None:
    balanced, unweighted = solver_of(eq.Equal(NAMES)), solver_of(None)
    trainer(balanced).train()
    trainer(unweighted).train()
    assert difference(unweighted.model, balanced.model) < 1e-7


def test_validation_learns_nothing() -> None:
    balancer = eq.GradNorm(NAMES)
    trainer(solver_of(balancer), train_size=0.5, val_size=0.5).train()
    assert int(balancer.state_dict()["calls"]) == 3


def test_the_closures_of_one_lbfgs_step_learn_once() -> None:
    balancer = eq.InverseGradientNorm(NAMES)
    solver = solver_of(balancer, torch.optim.LBFGS, max_iter=5)
    trainer(solver).train()
    assert int(balancer.state_dict()["calls"]) == 3
    points = LabelTensor(torch.rand(5, 2), ["x", "y"])
    assert solver(points).isfinite().all()


@pytest.mark.parametrize("name", of_kind(weighting=False)[:1])
def test_lbfgs_refuses_a_balancer_without_a_loss(name) -> None:
    solver = solver_of(balancer_of(name), torch.optim.LBFGS, max_iter=5)
    with pytest.raises(TypeError, match="L-BFGS searches along a loss"):
        trainer(solver).train()


def test_a_checkpoint_of_the_solver_holds_the_balancer(tmp_path) -> None:
    balancer = eq.GradNorm(NAMES)
    solver = solver_of(balancer)
    running = trainer(solver)
    running.train()
    running.save_checkpoint(tmp_path / "last.ckpt")
    other = eq.GradNorm(NAMES)
    PhysicsInformedSingleModelSolver.load_from_checkpoint(
        tmp_path / "last.ckpt",
        problem=problem(),
        model=Network(),
        weighting=BalancedWeighting(other),
        weights_only=False,
    )
    assert other.weights == balancer.weights != {"boundary": 1.0, "D": 1.0}
