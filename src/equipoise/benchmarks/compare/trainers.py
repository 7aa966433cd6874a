"""One training step with any method, behind one small interface."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, cast

import torch
from torch import Tensor

import equipoise as eq
from equipoise.benchmarks.baseline import plain_sum
from equipoise.benchmarks.measuring import measuring
from equipoise.benchmarks.methods import (
    FIXED,
    MULTI_TERM_OPTIMIZERS,
    NTK_TRACE,
    RIGHT,
    TASK_PRIORITIZATION,
    Method,
)
from equipoise.benchmarks.problem import Problem, Trial
from equipoise.benchmarks.refusal import RequestError
from equipoise.optim import AutoBalance, MTAdam


class Trainer(Protocol):
    """What a run needs of a method."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What moves the model."""

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """Updates the model once."""

    def look_back(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """Looks at what the step did, if the method asks for it.

        Args:
            again: Computes the losses of the step's batch once more.
        """

    def weights(self) -> dict[str, float]:
        """What each loss counted in the last step; not a number where no one number says it."""


class PlainSum:
    """``sum(losses).backward()`` and the optimizer: what a method's price is measured against.

    Args:
        trial: Holds the model, and says which optimizer.
        lr: The learning rate.
    """

    def __init__(self, trial: Trial, lr: float) -> None:
        self.optimizer = trial.optimizer(trial.model.parameters(), lr)

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """Updates the model once."""
        self.optimizer.zero_grad()
        plain_sum(losses.values())
        self.optimizer.step()

    def look_back(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """Asks for nothing."""

    def weights(self) -> dict[str, float]:
        """Nothing is weighted here."""
        return {}


class BalancerAndOptimizer:
    """A balancer in place of the sum, and the optimizer.

    Args:
        balancer: Built for the losses of the trial's problem.
        trial: Holds the model, and says which optimizer.
        lr: The learning rate.
    """

    def __init__(self, balancer: eq.Weighting | eq.Aggregation, trial: Trial, lr: float) -> None:
        self.balancer = balancer
        self.optimizer = trial.optimizer(trial.model.parameters(), lr)

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """Updates the model once."""
        self.optimizer.zero_grad()
        self.balancer.backward(losses)
        self.optimizer.step()

    def look_back(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """Asks for nothing."""

    def weights(self) -> dict[str, float]:
        """The balancer's weights of the last step."""
        return self.balancer.weights


class PrioritizedTasks(BalancerAndOptimizer):
    """Dynamic task prioritization, told every few steps how the tasks do.

    Args:
        balancer: Built for the losses of the trial's problem.
        trial: Holds the model and the key performance indices.
        lr: The learning rate.
        kpis: Gives the indices.
    """

    steps_between_kpis = 10

    def __init__(
        self,
        balancer: eq.DynamicTaskPrioritization,
        trial: Trial,
        lr: float,
        kpis: Callable[[], Mapping[str, float]],
    ) -> None:
        super().__init__(balancer, trial, lr)
        self.observe = balancer.observe
        self.model = trial.model
        self.kpis = kpis
        self.taken = 0

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """Updates the model once."""
        if self.taken % self.steps_between_kpis == 0:
            with measuring(self.model):
                indices = self.kpis()
            self.observe(indices)
        self.taken += 1
        super().step(losses)


class ObservedSteps(BalancerAndOptimizer):
    """FAMO, which learns from what each loss became in its step.

    Args:
        balancer: Built for the losses of the trial's problem.
        trial: Holds the model, and says which optimizer.
        lr: The learning rate.
    """

    def __init__(self, balancer: eq.FAMO, trial: Trial, lr: float) -> None:
        super().__init__(balancer, trial, lr)
        self.observe = balancer.observe

    def look_back(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """Shows the losses of the batch after the step; a residual needs gradients for that."""
        self.observe(again())


class OptimizerAlone:
    """An optimizer that takes the losses apart and updates the parameters itself.

    Args:
        optimizer: Built for the trial's model and the losses of its problem.
        losses: The names of the losses.
    """

    def __init__(self, optimizer: AutoBalance | MTAdam, losses: Sequence[str]) -> None:
        self.optimizer = optimizer
        self.losses = losses

    def step(self, losses: Mapping[str, Tensor]) -> None:
        """Updates the model once."""
        self.optimizer.zero_grad()
        self.optimizer.backward(losses)
        self.optimizer.step()

    def look_back(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """Asks for nothing."""

    def weights(self) -> dict[str, float]:
        """Not a number: each entry of a gradient may be scaled differently, as in AutoBalance."""
        return dict.fromkeys(self.losses, math.nan)


class NormBalancing(OptimizerAlone):
    """MTAdam, which scales each gradient as a whole, parameter by parameter.

    Args:
        optimizer: Built for the trial's model and the losses of its problem.
        losses: The names of the losses.
    """

    def weights(self) -> dict[str, float]:
        """What each gradient is scaled with, ``N_a / N_i``, averaged over the parameters.

        The anchor is the first loss that was measured; ranks are left out.
        """
        measured = [state["norms"] for state in self.optimizer.state.values()]
        if not measured:  # no step had finite losses yet
            return super().weights()
        norms = torch.stack(measured).double()  # [parameters, T]
        norms = torch.where(norms > 0, norms, torch.nan)
        first = int(norms.isfinite().any(dim=0).int().argmax())
        scales = (norms[:, [first]] / norms).nanmean(dim=0)
        return dict(zip(self.losses, scales.tolist(), strict=True))


def build_trainer(method: Method, problem: Problem, trial: Trial, lr: float) -> Trainer:
    """A method, ready for the first step of a trial.

    Args:
        method: Which, with which options.
        problem: Names the losses.
        trial: Holds the model.
        lr: The learning rate.

    Returns:
        Its trainer.

    Raises:
        RequestError: If the method does not take these options, or needs what the problem does not
            know.
    """
    build = _BUILDERS.get(method.name, _build_balancer)
    try:
        return build(method, problem, trial, lr)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{method.label}: {error}") from error


def _build_balancer(method: Method, problem: Problem, trial: Trial, lr: float) -> Trainer:
    return BalancerAndOptimizer(_create(method.name, problem, method.options), trial, lr)


def _build_right(method: Method, problem: Problem, trial: Trial, lr: float) -> Trainer:
    if trial.right_weights is None:
        raise ValueError(f"{problem.name} does not know the right weights.")
    options = {"weights": trial.right_weights, **method.options}
    return BalancerAndOptimizer(_create(FIXED, problem, options), trial, lr)


def _create(
    name: str, problem: Problem, options: Mapping[str, object]
) -> eq.Weighting | eq.Aggregation:
    # Every balancer is of one of these kinds, which is where `backward` is declared.
    return cast(
        "eq.Weighting | eq.Aggregation", eq.create_balancer(name, problem.losses, **options)
    )


def _build_prioritization(method: Method, problem: Problem, trial: Trial, lr: float) -> Trainer:
    if trial.kpis is None:
        raise ValueError(f"{problem.name} gives no key performance index.")
    # The class and not its name, so that a type checker sees `observe`.
    options: dict[str, Any] = dict(method.options)
    balancer = eq.DynamicTaskPrioritization(problem.losses, **options)
    return PrioritizedTasks(balancer, trial, lr, trial.kpis)


def _build_famo(method: Method, problem: Problem, trial: Trial, lr: float) -> Trainer:
    options: dict[str, Any] = dict(method.options)
    balancer = eq.FAMO(problem.losses, **options)
    trainer = ObservedSteps if balancer.after == "observed" else BalancerAndOptimizer
    return trainer(balancer, trial, lr)


def _refuse_ntk_trace(*_: object) -> Trainer:
    raise ValueError(
        "it is told the kernel's diagonal point by point, which no comparison knows. "
        "ntkweights finds its own."
    )


def _build_optimizer(method: Method, problem: Problem, trial: Trial, lr: float) -> Trainer:
    options: dict[str, Any] = {"lr": lr, "losses": problem.losses, **method.options}
    optimizer = MULTI_TERM_OPTIMIZERS[method.name](trial.model.named_parameters(), **options)
    trainer = NormBalancing if isinstance(optimizer, MTAdam) else OptimizerAlone
    return trainer(optimizer, problem.losses)


_BUILDERS: Mapping[str, Callable[[Method, Problem, Trial, float], Trainer]] = MappingProxyType(
    {
        RIGHT: _build_right,
        TASK_PRIORITIZATION: _build_prioritization,
        "famo": _build_famo,
        NTK_TRACE: _refuse_ntk_trace,
        **dict.fromkeys(MULTI_TERM_OPTIMIZERS, _build_optimizer),
    }
)
