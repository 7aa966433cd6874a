from __future__ import annotations

import io

import pytest
from rich.console import Console

import equipoise as eq
from equipoise.benchmarks.catalogue import catalogue, method_card
from equipoise.benchmarks.methods import method_names, method_options


def printed(parts) -> list[str]:
    out = io.StringIO()
    for part in parts:
        Console(file=out, width=220).print(part)
    return out.getvalue().splitlines()


def test_every_method_and_problem_is_listed_with_what_it_declares() -> None:
    lines = {line.split()[0]: line.split() for line in printed(catalogue()) if line.split()}
    assert set(eq.list_balancers()) <= lines.keys()
    assert {"autobalance", "mtadam", "digits", "toy_regression"} <= lines.keys()
    assert lines["mgda"][1:7] == ["gramian", "weights", "no", "no", "T", "T"]
    assert lines["softadapt"][1:7] == ["losses", "weights", "yes", "no", "1", "0"]
    assert lines["graddrop"][1:5] == ["gradients", "gradient", "no", "yes"]


def test_no_row_of_the_methods_is_left_empty() -> None:
    methods, _ = catalogue()
    assert all(all(cell for cell in row) for row in methods.rows)


@pytest.mark.parametrize("name", method_names())
def test_a_methods_card_has_a_row_for_each_option(name) -> None:
    lines = printed(method_card(name))
    first = [line.split()[0] for line in lines if line.split()]
    assert first[0] == f"{name}:"
    assert set(method_options(name)) <= set(first)


def test_a_card_tells_what_holds_for_this_method_where_it_differs_from_its_base() -> None:
    config = {line.split()[0]: line.split() for line in printed(method_card("con-fig")) if line}
    assert config["heads"][1] == "plain"
    gradnorm = {line.split()[0]: line.split() for line in printed(method_card("gradnorm")) if line}
    assert gradnorm["heads"][1] == "weighted"
    assert gradnorm["wrt"][1] == "last_shared"
    assert gradnorm["measuring"][2:5] == ["in", "code", "only:"]
