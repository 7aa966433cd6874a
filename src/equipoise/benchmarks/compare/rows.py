"""The rows of a comparison, and for each the variants that its result is chosen among."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from equipoise.benchmarks.compare.budget import steps_within
from equipoise.benchmarks.compare.request import TrainingOptions
from equipoise.benchmarks.compare.search import Search
from equipoise.benchmarks.compare.static_weights import static_weights
from equipoise.benchmarks.compare.step_times import UNPRICED, Prices
from equipoise.benchmarks.methods import BASELINES, FIXED, Method

STATIC = "static"
"""The row of the static weights chosen among trials, and the beginning of their labels."""

RETRAINED: Mapping[str, float] = MappingProxyType({"mean": 1.0, "last": 0.25})
"""Which last part of a training the weights are averaged over that are trained with again."""

RETRAINED_ENDING = " weights retrained)"
"""How the labels of rows end whose weights are another row's."""


@dataclass(frozen=True)
class Variant:
    """One way to train: what a seed is missing to be a run.

    Args:
        label: What its runs are filed under.
        method: What trains.
        options: How.
        priced_as: The method whose step costs as much as this one's.
    """

    label: str
    method: Method
    options: TrainingOptions
    priced_as: Method

    @property
    def key(self) -> tuple[str, TrainingOptions]:
        """What makes two variants the same."""
        return self.label, self.options


@dataclass(frozen=True)
class Row:
    """What stands in one line of the result.

    Args:
        label: The method as it was asked for.
        variants: What its result is chosen among on validation data; at least one.
        source: The row that this one retrains the weights of, variant by variant; or empty.
        last: Over which last part of a run these weights are averaged.
    """

    label: str
    variants: tuple[Variant, ...]
    source: str = ""
    last: float = 1.0


def rows_of(
    methods: Sequence[Method],
    options: TrainingOptions,
    search: Search,
    losses: Sequence[str],
    prices: Prices = UNPRICED,
) -> tuple[Row, ...]:
    """What a comparison consists of, as far as that is known before anything is trained.

    Args:
        methods: What was asked for, options with several values among them.
        options: How all are trained, but for the learning rate where several are tried.
        search: What is tried.
        losses: Names of the ``T`` losses.
        prices: Decide the numbers of steps where all are trained equally long.

    Returns:
        A row for each method and for the static weights, and two for each that is retrained.
    """
    rates = search.rates or (options.lr,)
    tried = [(method.label, _methods_of(method)) for method in methods]
    if search.static:
        tried.append((STATIC, _trials(len(losses), search.static)))
    rows = [
        Row(label, tuple(_variant(found, options, lr, prices) for found in those for lr in rates))
        for label, those in tried
    ]
    again = [method.label for method in methods if _is_retrained(method)] if search.retrain else []
    sources = [row for row in rows if row.label in again]
    return (*rows, *_retrained_rows(sources, options, _ones(len(losses)), prices))


def _methods_of(method: Method) -> list[tuple[str, Method, Method]]:
    return [(each.label, each, each) for each in method.alternatives]


def _trials(losses: int, count: int) -> list[tuple[str, Method, Method]]:
    """Label, method and priced method of each trial; one is priced for all."""
    return [
        (f"{STATIC}:{index}", Method(FIXED, {"weights": list(weights)}), _ones(losses))
        for index, weights in enumerate(static_weights(losses, count))
    ]


def _ones(losses: int) -> Method:
    return Method(FIXED, {"weights": [1.0] * losses})


def _variant(
    found: tuple[str, Method, Method], options: TrainingOptions, lr: float, prices: Prices
) -> Variant:
    label, method, priced_as = found
    own = replace(options, lr=lr)
    if own.seconds is not None and prices.plain_step is not None:
        # One that failed while it was timed will fail in its runs; it is given the plain number.
        ratio = prices.ratios.get(priced_as.label, 1.0)
        steps = steps_within(own.seconds, prices.plain_step, ratio)
        own = replace(own, steps=steps, epochs=None)
    return Variant(label, method, own, priced_as)


def _is_retrained(method: Method) -> bool:
    """Whether its weights are its own finding: not given beforehand, and not drawn."""
    return method.name not in {*BASELINES, FIXED}


def _retrained_rows(
    sources: Sequence[Row], options: TrainingOptions, fixed: Method, prices: Prices
) -> list[Row]:
    """Two for each source; which variant is meant, and its weights, follow from finished runs."""
    return [
        Row(
            label=f"{source.label} ({which}{RETRAINED_ENDING}",
            variants=tuple(
                _variant(
                    (f"{each.label} ({which}{RETRAINED_ENDING}", fixed, fixed),
                    options,
                    each.options.lr,
                    prices,
                )
                for each in source.variants
            ),
            source=source.label,
            last=last,
        )
        for source in sources
        for which, last in RETRAINED.items()
    ]
