"""The problems that come with equipoise, one file each."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from equipoise.benchmarks.problem import Problem, load_problem
from equipoise.benchmarks.problems.digits import digits
from equipoise.benchmarks.problems.toy_regression import toy_regression, toy_regression_ten
from equipoise.benchmarks.refusal import RequestError, did_you_mean

PROBLEMS: MappingProxyType[str, Callable[[], Problem]] = MappingProxyType(
    {
        "digits": digits,
        "toy_regression": toy_regression,
        "toy_regression_ten": toy_regression_ten,
    }
)


def find_problem(name: str) -> Problem:
    """The problem of that name, or a user's own.

    Args:
        name: One of `PROBLEMS`, or ``module:function`` (see `load_problem`).

    Returns:
        The problem.

    Raises:
        RequestError: If there is none.

    Example:
        >>> find_problem("digits").metric
        'test accuracy'
    """
    if ":" in name:
        return load_problem(name)
    if name in PROBLEMS:
        return PROBLEMS[name]()
    hint = did_you_mean(name, PROBLEMS) or f"There are {', '.join(PROBLEMS)}. "
    raise RequestError(f"Unknown problem {name!r}. {hint}Your own is given as module:function.")
