"""A problem: what is trained in a comparison, and how the result is judged."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor, nn

from equipoise.benchmarks.refusal import RequestError

ComputeLosses: TypeAlias = Callable[..., Mapping[str, Tensor]]
"""Called with one batch, a slice of each tensor of `Trial.data`; returns the losses by name."""


@dataclass(frozen=True)
class Trial:
    """One seed of a problem: a fresh model, its data, its losses and its metric.

    Args:
        model: Freshly initialised; all its parameters are trained.
        data: The training tensors, each ``[N, ...]`` with the samples along the first axis.
        compute_losses: ``compute_losses(*batch)`` gives the losses by name, with their graph; a
            loss that this batch does not have is left out.
        evaluate: ``evaluate()`` gives the metric on the test data, in no-grad mode; a model that
            was put into evaluation mode for it is put back.
        right_weights: The weights that undo the losses' different scales, where they are known;
            they make the reference row ``right``.
        kpis: ``kpis()`` gives a key performance index in [0, 1] for each loss, on a part of the
            training data, in no-grad mode; dynamic task prioritization asks for it.
    """

    model: nn.Module
    data: tuple[Tensor, ...]
    compute_losses: ComputeLosses
    evaluate: Callable[[], float]
    right_weights: Mapping[str, float] | None = None
    kpis: Callable[[], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Problem:
    """A training problem that every method is given in the same way.

    Args:
        name: What the results are filed under.
        description: One sentence for the report.
        losses: The names of the ``T`` losses.
        metric: What `Trial.evaluate` measures, for example ``"test accuracy"``.
        higher_is_better: Whether a larger metric is a better one.
        start: ``start(seed)`` gives the `Trial` of that seed, the same each time it is called. The
            global random generator is seeded before the call and before the training.
        epochs: Default number of passes over the data.
        batch_size: Default number of samples a step.
        lr: Default learning rate.
        balancers: The methods compared by default, as `--balancers` takes them.
        labels: What a method's row is called in tables and pictures, where not by its name.

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
    epochs: int
    batch_size: int
    lr: float
    balancers: tuple[str, ...] = ("equal", "mtadam", "gradnorm", "softadapt", "uncertainty")
    labels: Mapping[str, str] = field(default_factory=dict)


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
