"""The optimizers that a whole comparison can be made with, in place of a problem's own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from equipoise.benchmarks.problem import BuildOptimizer, Problem, Trial
from equipoise.benchmarks.refusal import RequestError
from equipoise.words import did_you_mean


class MuonAndAdam(torch.optim.Optimizer):
    """Muon for matrices, Adam for all else: Muon orthogonalises updates, and takes matrices only.

    Args:
        params: The parameters; a convolution's kernels are not matrices here.
        lr: The learning rate of both: Muon's updates are scaled to the size of Adam's.

    Raises:
        RequestError: If this release of torch has no Muon.

    Source: Keller Jordan's Muon as `torch.optim.Muon` has it; the scaling is that of Liu et al.
    2025 (arXiv 2502.16982).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        parameters = list(params)
        super().__init__(parameters, {"lr": lr})
        matrices = [each for each in parameters if each.ndim == 2]
        others = [each for each in parameters if each.ndim != 2]
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            if not hasattr(torch.optim, "Muon"):
                raise RequestError(f"Muon needs torch 2.9 or later; this is {torch.__version__}.")
            muon = functools.partial(torch.optim.Muon, adjust_lr_fn="match_rms_adamw")
            self.parts.append(muon(matrices, lr=lr, weight_decay=0.0))
        if others:
            self.parts.append(torch.optim.Adam(others, lr=lr))

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ANN401
        """Updates the parameters once.

        Args:
            closure: None; what evaluates the losses again has no place here.
        """
        if closure is not None:
            raise TypeError("MuonAndAdam takes no closure.")
        for part in self.parts:
            part.step()


class AdamThatForgets(torch.optim.Adam):
    """Adam whose moments are cleared once, as by a new optimizer in its place.

    Args:
        params: The parameters.
        lr: The learning rate.
        beta2: How long squares are remembered.
        forget_after: After how many steps the moments are cleared; 0 for never.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        beta2: float = 0.999,
        forget_after: float = 0,
    ) -> None:
        if not float(forget_after).is_integer() or forget_after < 0:
            raise ValueError(f"forget_after is a number of steps; got {forget_after:g}.")
        super().__init__(params, lr=lr, betas=(0.9, beta2))
        self.steps_left = int(forget_after)

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401
        """Updates the parameters once."""
        value = super().step(closure)
        self.steps_left -= 1
        if self.steps_left == 0:
            self.state.clear()
        return value


def _soap(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    try:
        from pytorch_optimizer.optimizer.soap import SOAP
    except ModuleNotFoundError:
        raise RequestError(
            'SOAP needs another package: pip install "equipoise[optimizers]"'
        ) from None
    found: torch.optim.Optimizer = SOAP(list(parameters), lr=lr, weight_decay=0.0)
    return found


OPTIMIZERS: Mapping[str, BuildOptimizer] = MappingProxyType(
    {
        "adam": AdamThatForgets,
        "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr),
        "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
        "soap": _soap,
        "muon": lambda parameters, lr: MuonAndAdam(parameters, lr=lr),
    }
)
"""By the name that `--optimizer` takes; all but AdamW without weight decay."""

_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType({"adam": ("beta2", "forget_after")})
"""The options that `--optimizer` takes after a name; all are numbers."""


def with_optimizer(problem: Problem, text: str) -> Problem:
    """A problem whose trials are trained with another optimizer than their own.

    Methods that are optimizers themselves, such as MTAdam, take no notice.

    Args:
        problem: The problem.
        text: One of `OPTIMIZERS`, options after colons; empty for the problem as it is.

    Returns:
        The problem.

    Raises:
        RequestError: If there is no such optimizer or option, or its package is missing.
    """
    if not text:
        return problem
    build = _read(text)
    try:
        build([nn.Parameter(torch.zeros(1, 1))], 1e-3)  # says now what is missing
    except ValueError as error:
        raise RequestError(f"--optimizer {text}: {error}") from error

    @functools.wraps(problem.start)
    def start(seed: int) -> Trial:
        return replace(problem.start(seed), optimizer=build)

    return replace(problem, start=start)


def _read(text: str) -> BuildOptimizer:
    name, *written = text.split(":")
    if name not in OPTIMIZERS:
        hint = did_you_mean(name, OPTIMIZERS)
        raise RequestError(
            f"Unknown --optimizer {name!r}.{hint} There are {', '.join(OPTIMIZERS)}."
        )
    return functools.partial(OPTIMIZERS[name], **dict(_option(name, each) for each in written))


def _option(name: str, text: str) -> tuple[str, float]:
    key, _, value = text.partition("=")
    known = _OPTIONS.get(name, ())
    if key not in known:
        takes = f"It takes {', '.join(known)}." if known else "It takes none."
        raise RequestError(f"--optimizer {name} has no option {key!r}. {takes}")
    try:
        return key, float(value)
    except ValueError:
        raise RequestError(f"--optimizer {name}: {key} is a number; got {value!r}.") from None
