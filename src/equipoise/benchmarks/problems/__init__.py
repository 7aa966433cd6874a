"""The problems that come with equipoise, one file each."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from equipoise.benchmarks.problem import Problem, load_problem
from equipoise.benchmarks.problems.burgers import burgers
from equipoise.benchmarks.problems.conflict import conflict
from equipoise.benchmarks.problems.descent import beale, rosenbrock
from equipoise.benchmarks.problems.digits import digits
from equipoise.benchmarks.problems.helmholtz import helmholtz
from equipoise.benchmarks.problems.image_pairs import image_pairs
from equipoise.benchmarks.problems.klein_gordon import klein_gordon
from equipoise.benchmarks.problems.linear_shared import linear_shared
from equipoise.benchmarks.problems.negatives import loud_negatives, negatives
from equipoise.benchmarks.problems.photographs import photographs
from equipoise.benchmarks.problems.rare_labels import rare_labels
from equipoise.benchmarks.problems.recommender import recommender
from equipoise.benchmarks.problems.sparse_autoencoder import sparse_autoencoder
from equipoise.benchmarks.problems.super_resolution import super_resolution
from equipoise.benchmarks.problems.tabular import tabular
from equipoise.benchmarks.problems.three_tasks import three_tasks
from equipoise.benchmarks.problems.toy_regression import toy_regression, toy_regression_ten
from equipoise.benchmarks.problems.vae import vae
from equipoise.benchmarks.problems.wave import wave
from equipoise.benchmarks.refusal import RequestError
from equipoise.words import did_you_mean

PROBLEMS: MappingProxyType[str, Callable[[], Problem]] = MappingProxyType(
    {
        "digits": digits,
        "toy_regression": toy_regression,
        "toy_regression_ten": toy_regression_ten,
        "three_tasks": three_tasks,
        "rare_labels": rare_labels,
        "tabular": tabular,
        "rosenbrock": rosenbrock,
        "beale": beale,
        "sparse_autoencoder": sparse_autoencoder,
        "vae": vae,
        "super_resolution": super_resolution,
        "image_pairs": image_pairs,
        "helmholtz": helmholtz,
        "klein_gordon": klein_gordon,
        "wave": wave,
        "burgers": burgers,
        "linear_shared": linear_shared,
        "conflict": conflict,
        "negatives": negatives,
        "loud_negatives": loud_negatives,
        "photographs": photographs,
        "recommender": recommender,
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
    hint = did_you_mean(name, PROBLEMS) or f" There are {', '.join(PROBLEMS)}."
    raise RequestError(f"Unknown problem {name!r}.{hint} Your own is given as module:function.")
