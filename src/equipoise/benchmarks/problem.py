"""A problem: what is trained in a comparison, and how the result is judged."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from equipoise.benchmarks.metrics import DELTA_M, Measurement, Metric, delta_m
from equipoise.benchmarks.refusal import RequestError

ComputeLosses: TypeAlias = Callable[..., Mapping[str, Tensor]]
"""Called with one batch, a slice of each tensor of `Trial.data`; returns the losses by name."""

Draw: TypeAlias = Callable[[int], Any]
"""Called with the batch size at every step; returns the batch, drawn with a global generator."""

TakeStep: TypeAlias = Callable[..., Mapping[str, Tensor]]
"""Called as ``step(update, *batch)``; returns the losses that it gave to ``update``."""

BuildOptimizer: TypeAlias = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]
"""Called with the parameters and the learning rate."""


@dataclass(frozen=True)
class Trial:
    """One seed of a problem: a fresh model, its data, its losses and its metric.

    Args:
        model: Freshly initialised; all its parameters are trained by the method. What a problem
            trains itself (the critic of a GAN) is no part of it.
        data: The training tensors, each ``[N, ...]`` with the samples along the first axis; or a
            `DataLoader` or another iterable of batches, gone through once an epoch; or a function
            that draws a batch of the size it is given; or ``()``, for a problem without data.
        compute_losses: ``compute_losses(*batch)`` gives the losses by name, with their graph; a
            loss that this batch does not have is left out. It changes nothing.
        evaluate: ``evaluate()`` gives the metric on the test data, or all of `Problem.metrics` by
            name. It is called without gradients and with the model in evaluation mode.
        right_weights: The weights that undo the losses' different scales, where they are known;
            they make the reference row ``right``.
        kpis: ``kpis()`` gives a key performance index in [0, 1] for each loss, on a part of the
            training data; called as ``evaluate`` is. Dynamic task prioritization asks for it.
        validate: ``validate()`` is ``evaluate()`` on validation data: what learning rates, options
            and weights are chosen by.
        step: ``step(update, *batch)`` is a step where it is more than one update: it hands losses
            to ``update(losses)``, which is the method's step on the model, does whatever else
            belongs to a step (the critic's own update), and returns the losses.
        finish: ``finish(weights)`` ends the training after the last step, for example with L-BFGS
            on the sum of the losses with these weights: the method's last; ones throughout where
            one of them is no number, or negative, so that the sum may have no minimum.
        optimizer: ``optimizer(parameters, lr)`` in place of Adam, for example `torch.optim.SGD`.
    """

    model: nn.Module
    data: tuple[Tensor, ...] | Iterable[Any] | Draw
    compute_losses: ComputeLosses
    evaluate: Callable[[], Measurement]
    right_weights: Mapping[str, float] | None = None
    kpis: Callable[[], Mapping[str, float]] | None = None
    validate: Callable[[], Measurement] | None = None
    step: TakeStep | None = None
    finish: Callable[[Mapping[str, float]], object] | None = None
    optimizer: BuildOptimizer = torch.optim.Adam

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return next(self.model.parameters()).device


@dataclass(frozen=True)
class Problem:
    """A training problem that every method is given in the same way.

    Args:
        name: What the results are filed under.
        description: One sentence for the report.
        losses: The names of the ``T`` losses.
        metric: What the result is judged by, for example ``"test accuracy"``: what
            `Trial.evaluate` measures, or one of ``metrics``, or `equipoise.benchmarks.DELTA_M`.
        higher_is_better: Whether a larger metric is a better one.
        start: ``start(seed)`` gives the `Trial` of that seed, the same each time it is called. The
            global random generators (torch's, NumPy's, Python's) are seeded before the call and
            before the training.
        epochs: Default number of passes over the data.
        batch_size: Default number of samples a step; ``None`` where the data come in batches.
        lr: Default learning rate.
        balancers: The methods compared by default, as `--balancers` takes them.
        labels: What a method's row is called in tables and pictures, where not by its name.
        steps: Default number of steps, in place of ``epochs``.
        metrics: What `Trial.evaluate` measures, where it is several things.

    Raises:
        ValueError: If neither epochs nor steps are given, or both, or if ``metric`` cannot be
            taken from ``metrics``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> def start(seed: int) -> Trial:
        ...     x = torch.randn(64, 3)
        ...     model = nn.Linear(3, 2)
        ...
        ...     def compute_losses(x):
        ...         y = model(x)
        ...         return {"near": (y[:, 0] - 1).square().mean(), "far": y[:, 1].square().mean()}
        ...
        ...     return Trial(model, (x,), compute_losses, lambda: float(model(x)[:, 1].std()))
        >>> problem = Problem(
        ...     name="lines",
        ...     description="Two lines.",
        ...     losses=("near", "far"),
        ...     metric="spread",
        ...     higher_is_better=False,
        ...     start=start,
        ...     epochs=2,
        ...     batch_size=16,
        ...     lr=1e-2,
        ... )
        >>> sorted(problem.start(0).compute_losses(torch.zeros(4, 3)))
        ['far', 'near']
    """

    name: str
    description: str
    losses: tuple[str, ...]
    metric: str
    higher_is_better: bool
    start: Callable[[int], Trial]
    epochs: int | None = None
    batch_size: int | None = None
    lr: float = 1e-3
    balancers: tuple[str, ...] = ("equal", "mtadam", "gradnorm", "softadapt", "uncertainty")
    labels: Mapping[str, str] = field(default_factory=dict)
    steps: int | None = None
    metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"Problem {self.name!r} needs one of epochs and steps; got epochs={self.epochs} "
                f"and steps={self.steps}."
            )
        if self.metrics:
            self._check_metrics()

    def judge(self, measured: Measurement) -> tuple[float, dict[str, float]]:
        """The summary of what `Trial.evaluate` or `Trial.validate` measured.

        Args:
            measured: What it returned.

        Returns:
            The value of `metric`, and that of each of `metrics`.

        Raises:
            ValueError: If something else was measured than `metrics` says.
        """
        wanted = {metric.name for metric in self.metrics}
        if not isinstance(measured, Mapping):
            found, measured = {self.metric}, {self.metric: measured}
            wanted = wanted or found
        if set(measured) != wanted:
            raise ValueError(
                f"Problem {self.name!r} measures {sorted(wanted) or [self.metric]}; got "
                f"{sorted(measured)}. State the names in Problem(metrics=...)."
            )
        values = {name: float(value) for name, value in measured.items()}
        summary = values[self.metric] if self.metric in values else delta_m(self.metrics, values)
        return summary, values

    def _check_metrics(self) -> None:
        direction = {metric.name: metric.higher_is_better for metric in self.metrics}
        unmeasured = [metric.name for metric in self.metrics if not metric.reference]
        if self.metric == DELTA_M:
            direction[DELTA_M] = True
            if unmeasured:
                raise ValueError(
                    f"metric=DELTA_M needs a reference other than 0 for each metric of "
                    f"{self.name!r}; {unmeasured} have none."
                )
        if direction.get(self.metric) is not self.higher_is_better:
            raise ValueError(
                f"metric={self.metric!r} with higher_is_better={self.higher_is_better} is none of "
                f"{direction} of {self.name!r}; name one of them, or DELTA_M."
            )


def load_problem(reference: str) -> Problem:
    """A user's own problem, from ``module:function``.

    Args:
        reference: The module as it would be imported, and a function in it that takes no argument
            and returns a `Problem`.

    Returns:
        What the function returned.

    Raises:
        RequestError: If the module, the function or the `Problem` is not there.
    """
    module_name, _, function_name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RequestError(
            f"The problem's module {module_name!r} cannot be imported: {error}."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function) or not _takes_nothing(function):
        raise RequestError(
            f"{module_name!r} has no function {function_name!r} without arguments; write "
            "module:function, where the function returns an equipoise.benchmarks.Problem."
        )
    problem = function()
    if not isinstance(problem, Problem):
        raise RequestError(
            f"{reference} returned {type(problem).__name__}, not an equipoise.benchmarks.Problem."
        )
    return problem


def _takes_nothing(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True
