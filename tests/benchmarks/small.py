"""Problems that train in milliseconds, given to the command line as a user gives their own."""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import nn

from equipoise.benchmarks import Problem, Trial


def problem(name: str = "small", seconds_per_step: float = 0.0) -> Problem:
    def start(seed: int) -> Trial:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(24, 3, generator=generator)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

        def compute_losses(x):
            time.sleep(seconds_per_step)
            errors = (model(x) - x[:, :2]).square().mean(dim=0)
            return {"near": errors[0], "far": 100 * errors[1]}

        def evaluate() -> float:
            with torch.no_grad():
                return float((model(x) - x[:, :2]).square().mean())

        return Trial(
            model=model,
            data=(x,),
            compute_losses=compute_losses,
            evaluate=evaluate,
            right_weights={"near": 1.0, "far": 0.01},
        )

    return Problem(
        name=name,
        description="Two lines & one <plane>.",
        losses=("near", "far"),
        metric="error",
        higher_is_better=False,
        start=start,
        epochs=2,
        batch_size=8,
        lr=1e-2,
        balancers=("equal", "right", "mtadam"),
        labels={"equal": "plain sum"},
    )


def slow_problem() -> Problem:
    """Slow enough that a test can stop it between two runs."""
    return problem("slow", seconds_per_step=0.004)


def trap_problem() -> Problem:
    """The second loss is tiny on seed 0; a weight that makes up for it overflows on all others."""

    def start(seed: int) -> Trial:
        trial = problem().start(seed)
        scale = 1e-38 if seed == 0 else 1e3

        def compute_losses(x):
            losses = trial.compute_losses(x)
            return {"near": losses["near"], "far": scale * losses["far"] / 100}

        return dataclasses.replace(trial, compute_losses=compute_losses, right_weights=None)

    return dataclasses.replace(problem("trap"), start=start, epochs=10)


def not_a_problem() -> str:
    return "this is none"


def ten_problem() -> Problem:
    """Ten losses with the long names that people give them."""
    names = tuple(f"digit_{place}_reconstruction" for place in range(10))

    def start(seed: int) -> Trial:
        trial = problem().start(seed)

        def compute_losses(x):
            near, far = trial.compute_losses(x).values()
            return {name: near + place * far for place, name in enumerate(names)}

        return dataclasses.replace(trial, compute_losses=compute_losses, right_weights=None)

    return dataclasses.replace(problem("ten"), losses=names, start=start)


def marked_problem() -> Problem:
    """Everything that has a name has one that rich would take for markup."""
    marked = dataclasses.replace(problem("marked [red]"), metric="error [/x] :key:")
    return dataclasses.replace(marked, labels={"equal": "plain [bold]sum[/bold]"})


def broken_problem() -> Problem:
    """Its losses cannot be computed."""

    def start(seed: int) -> Trial:
        def compute_losses(x):
            raise RuntimeError(f"shapes {list(x.shape)} and [4, 2] do not fit")

        return dataclasses.replace(problem().start(seed), compute_losses=compute_losses)

    return dataclasses.replace(problem("broken"), start=start)


def problem_without_a_file() -> Problem:
    """Its data are not there."""

    def start(seed: int) -> Trial:
        return dataclasses.replace(problem().start(seed), data=(torch.load("no_such_data.pt"),))

    return dataclasses.replace(problem("without"), start=start)


def awkward_problem() -> Problem:
    """Its name is no name of a folder."""
    return problem('a/b: "c?')
