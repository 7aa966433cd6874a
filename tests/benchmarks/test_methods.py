from __future__ import annotations

import re

import pytest

import equipoise as eq
from equipoise import optim
from equipoise.benchmarks.bench.request import parse_priced_methods
from equipoise.benchmarks.methods import (
    Method,
    method_class,
    method_names,
    method_options,
    methods_for,
    parse_methods,
    summary,
)
from equipoise.benchmarks.problems import find_problem
from equipoise.benchmarks.refusal import RequestError


def test_every_balancer_and_optimizer_of_the_library_can_be_compared():
    optimizers = {name.lower() for name in optim.__all__}
    assert {*eq.list_balancers(), *optimizers, "right"} == set(method_names())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("autobalance", eq.AutoBalance), ("mtadam", eq.MTAdam), ("multiadam", eq.MultiAdam)],
)
def test_an_optimizer_is_found_by_its_name(name, kind):
    assert method_class(name) is kind


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_summary_of_one_line(name):
    assert summary(name).endswith(".")
    assert "\n" not in summary(name)


def test_options_are_read_as_what_they_look_like():
    (method,) = parse_methods("mtadam:lr=0.1:amsgrad=true:ranks=1/2:foreach=none:granularity=layer")
    assert method.options == {
        "lr": 0.1,
        "amsgrad": True,
        "ranks": [1.0, 2.0],
        "foreach": None,
        "granularity": "layer",
    }


def test_label_does_not_depend_on_the_order_of_options_and_reads_back():
    (one,) = parse_methods("gradnorm:alpha=0.12:every=3")
    (other,) = parse_methods("grad_norm:every=3:alpha=0.12")
    assert one.label == other.label
    assert parse_methods(one.label) == (one,)


def test_values_between_bars_are_alternatives_of_one_row():
    (grid,) = parse_methods("gradnorm:every=1|10:alpha=0|0.5|1.5")
    assert grid.label == "gradnorm:alpha=0|0.5|1.5:every=1|10"
    assert parse_methods(grid.label) == (grid,)
    assert [method.label for method in grid.alternatives] == [
        f"gradnorm:alpha={alpha}:every={every}" for every in (1, 10) for alpha in (0, 0.5, 1.5)
    ]
    assert parse_methods("gradnorm:alpha=1|1|") == parse_methods("gradnorm:alpha=1")
    assert [method.label for method in parse_priced_methods("fixed,gradnorm:every=1|10")] == [
        "fixed",
        "gradnorm:every=1",
        "gradnorm:every=10",
    ]


def test_a_method_given_twice_is_one_row():
    assert parse_methods("equal,equal") == (Method("equal"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gradnrom", "Did you mean 'gradnorm'"),
        ("zzz", "`equipoise list` shows all"),
        ("gradnorm:alhpa=1", "Did you mean 'alpha'"),
        ("gradnorm:alpha", "name=value"),
        ("gradnorm:alpha=", "name=value"),
        ("fixed", "needs the option 'weights'"),
        ("right:weights=1/2", "no option 'weights'"),
        (",", "names no method"),
    ],
)
def test_a_wrong_method_is_refused_with_what_to_write(text, message):
    with pytest.raises(RequestError, match=message):
        parse_methods(text)


def test_all_leaves_out_what_a_problem_cannot_feed():
    digits = {method.name for method in methods_for(find_problem("digits").start(0))}
    toy = {method.name for method in methods_for(find_problem("toy_regression").start(0))}
    assert digits == {*method_names()} - {"fixed", "ntktrace"}
    assert toy == {*method_names()} - {"fixed", "ntktrace", "dynamictaskprioritization"}


def test_options_include_those_that_every_balancer_takes():
    assert {"every", "priorities", "beta"} <= set(method_options("softadapt"))


VALUES = [("1/2", [1.0, 2.0]), ("3", 3), ("0.5", 0.5), ("true", True)]
WORDS = {
    choice for name in method_names() for s in method_options(name).values() for choice in s.choices
}
VALUES += [(word, word) for word in sorted(map(str, WORDS))] + [("none", None)]


@pytest.mark.parametrize("name", method_names())
def test_every_option_of_every_method_is_written_or_refused_because_only_code_can_give_it(name):
    needed = "".join(f":{key}=1/2" for key, spec in method_options(name).items() if spec.required)
    for key, spec in method_options(name).items():
        written, meant = next(pair for pair in VALUES if not spec.writable or spec.admits(pair[1]))
        text = f"{name}{needed}:{key}={written}"
        if spec.writable:
            (method,) = parse_methods(text)
            assert method.options[key] == meant
        else:
            with pytest.raises(RequestError, match=f"{key}.* can only be given in code, as "):
                parse_methods(text)


@pytest.mark.parametrize("name", method_names())
def test_a_misspelt_option_of_every_method_is_answered_with_the_nearest(name):
    for key, spec in method_options(name).items():
        if spec.writable:
            written = key + key[-1]
            with pytest.raises(RequestError, match=f"option '{written}'. Did you mean '{key}'"):
                parse_methods(f"{name}:{written}=1")


@pytest.mark.parametrize("text", ["gradnorm:wrt=shared", "upgrad:heads=plain", "mgda:wrt=shared"])
def test_where_gradients_are_watched_and_what_heads_receive_can_be_written(text):
    assert parse_methods(text)[0].label == text


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("gradnorm:alpha=abc", "gradnorm:alpha=abc: the option 'alpha' takes float."),
        ("dwa:window=2.5", "dwa:window=2.5: the option 'window' takes int | None."),
        ("gradnorm:every=x", "gradnorm:every=x: the option 'every' takes int."),
        ("gradnorm:optimizer=adma", "the option 'optimizer' takes adam, sgd. Did you mean 'adam'?"),
        ("equal:every=true", "the option 'every' takes int."),
    ],
)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_option(written, said):
    with pytest.raises(RequestError, match=re.escape(said)):
        parse_methods(written)


@pytest.mark.parametrize("name", method_names())
def test_every_default_that_can_be_written_is_admitted(name):
    for spec in method_options(name).values():
        if spec.writable and isinstance(spec.default, bool | int | float | str):
            assert spec.admits(spec.default), spec
