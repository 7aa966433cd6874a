from __future__ import annotations

import re

import pytest
from docs.extension.method_pages import method_pages
from docs.extension.price_table import PRICES, methods_table

import equipoise as eq
from equipoise.benchmarks.methods import MULTI_TERM_OPTIMIZERS, method_options, parse_methods
from equipoise.monitor.rules import RULES
from equipoise.registry import balancer_class

PAGES = method_pages()
KINDS = {balancer_class(name).__name__: name for name in eq.list_balancers()}
KINDS |= {kind.__name__: name for name, kind in MULTI_TERM_OPTIMIZERS.items()}


def cells(table: str, method: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if line.startswith(f"| [`{method}`]"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("method", KINDS)
def test_every_method_has_a_page_a_row_and_all_its_options_there(method) -> None:
    page = PAGES[f"{method}.md"]
    assert f"autoclass:: equipoise.{method}\n" in page
    missing = [name for name in method_options(KINDS[method]) if f"\n| `{name}` | " not in page]
    assert not missing
    assert cells(methods_table(), method)


@pytest.mark.parametrize("method", KINDS)
def test_what_a_page_writes_for_the_command_line_is_understood(method) -> None:
    (written,) = re.findall(r"can be written as text: `(.*)`\.", PAGES[f"{method}.md"])
    assert [found.name for found in parse_methods(written)] == [KINDS[method]]


def test_there_is_no_page_besides() -> None:
    assert PAGES.keys() == {"index.md", *(f"{method}.md" for method in KINDS)}


def test_pages_say_in_which_situation_a_method_is_recommended() -> None:
    for rule in RULES:
        for pick in rule.picks:
            assert f"- **{rule.situation}**: {pick.why}" in PAGES[f"{pick.method}.md"]


def test_methods_stand_in_the_order_of_what_they_look_at() -> None:
    table = methods_table()
    places = [table.index(f"[`{name}`]") for name in ("SoftAdapt", "GradNorm", "PCGrad", "MTAdam")]
    assert places == sorted(places)


def test_a_line_holds_what_the_class_declares_and_what_was_measured() -> None:
    price = {"passes": 1.0, "time": 1.81, "time_every_10": 1.08, "memory": 1.6}
    row = cells(methods_table({**PRICES, "prices": {"gradnorm": price}}), "GradNorm")
    assert row[2:] == ["norms", "weights", "no", "1", "1.81", "1.08", "1.6"]


def test_losses_with_a_forward_pass_of_their_own_have_a_column_where_they_were_measured() -> None:
    price = {"passes": 1.0, "time": 1.81, "time_own_graphs": 1.3, "memory": 1.6}
    table = methods_table({**PRICES, "prices": {"gradnorm": price}})
    assert cells(table, "GradNorm")[-2:] == ["1.6", "1.30"]
    assert cells(table, "Equal")[-1] == ""
    assert "| Time, own graphs |" in table
    assert "| Time, own graphs |" not in methods_table({**PRICES, "prices": {}})


@pytest.mark.parametrize("name", ["AutoBalance", "MTAdam"])
def test_an_optimizer_gives_the_update(name) -> None:
    assert cells(methods_table(), name)[2:5] == ["gradients", "update", "no"]


def test_a_method_without_a_price_says_so() -> None:
    assert cells(methods_table({**PRICES, "prices": {}}), "Equal")[-4:] == [
        "",
        "not measured",
        "",
        "",
    ]
