from __future__ import annotations

import dataclasses

import pytest

from equipoise.benchmarks.compare.run import DIVERGED
from equipoise.benchmarks.compare.statistics import standings
from equipoise.benchmarks.demo.findings import brief, caption, finding, headline, sentence
from tests.benchmarks.demo.conftest import SMALL

SEEDS = 4


def part_with(small_runs, **errors):
    """Real runs given other results: the mean error of each method, and hardly a spread."""
    made = []
    for label, error in errors.items():
        run = next(run for run in small_runs if run.balancer == label)
        for seed in range(SEEDS):
            metric = error + 1e-3 * (seed - 1.5) * (1 + len(made) % 3)
            curve = [*run.metric_curve[:-1], metric]
            made.append(dataclasses.replace(run, seed=seed, metric=metric, metric_curve=curve))
    return made


def test_a_sentence_groups_the_references_by_what_the_tests_say(small_runs):
    made = part_with(small_runs, mtadam=0.3, equal=0.9, firstvalue=0.6, right=0.1)
    assert sentence(finding(SMALL, standings(made, {}))) == (
        "mtadam reaches error 0.300, better than the plain sum (0.900) and first values (0.600), "
        "worse than the right weights (0.100); the best mean is that of right, 0.100."
    )


def test_what_cannot_be_told_apart_is_not_called_better(small_runs):
    made = part_with(small_runs, mtadam=0.3, equal=0.3)
    said = sentence(finding(SMALL, standings(made, {})))
    assert "not told from the plain sum" in said
    assert "better than" not in said


def test_one_seed_gives_numbers_and_no_verdict(small_runs):
    found = finding(SMALL, standings([run for run in small_runs if run.seed == 0], {}))
    said = sentence(found)
    assert "beside the plain sum" in said
    assert not any(word in said for word in ("better", "worse", "not told"))
    assert "One seed tells no methods apart" in caption(found)
    assert headline([found]) == (
        "Balancing beside the plain sum, 1 problem: one seed, no verdict, on 1"
    )


def test_a_reference_that_diverged_is_said_to_have(small_runs):
    made = part_with(small_runs, mtadam=0.3, equal=0.2)
    lost = dataclasses.replace(made[-1], failure=DIVERGED)
    assert "better than the plain sum (1 of 4 diverged; else" in sentence(
        finding(SMALL, standings([*made[:-1], lost], {}))
    )


def test_a_method_that_is_not_trained_yet_is_said_to_be_missing(small_runs):
    made = part_with(small_runs, equal=0.2)
    assert sentence(finding(SMALL, standings(made, {}))) == "mtadam has no finished run yet."


def test_the_headline_counts_losses_as_well_as_gains(small_runs):
    errors = ({"mtadam": 0.3, "equal": 0.9}, {"mtadam": 0.9, "equal": 0.3})
    found = [finding(SMALL, standings(part_with(small_runs, **each), {})) for each in errors]
    assert headline(found) == (
        "Balancing beside the plain sum, 2 problems: better on 1, worse on 1"
    )


def test_a_caption_names_every_row_that_loses_to_the_plain_sum(small_runs):
    made = part_with(small_runs, mtadam=0.9, equal=0.3, firstvalue=0.8)
    said = caption(finding(SMALL, standings(made, {})))
    assert "Worse than the plain sum: firstvalue, mtadam" in said
    assert "seeds: 4" in said


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("mtadam", "mtadam"),
        ("softadapt:source=paper:variant=normalized", "softadapt (paper, normalized)"),
        ("equal", "plain sum"),
    ],
)
def test_methods_are_named_in_little_room(label, short):
    assert brief(label, {"equal": "plain sum"}) == short
