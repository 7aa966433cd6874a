from __future__ import annotations

import inspect
import re
from typing import Literal, TypedDict

import pytest
import torch
from typing_extensions import Unpack

import equipoise as eq
from equipoise.aggregation.base import AggregationOptions
from equipoise.benchmarks.methods import method_names, method_options
from equipoise.learner import BalancerOptions
from equipoise.options import options_of
from equipoise.registry import balancer_class

CODE_ONLY = {"process_group", "measuring", "generator", "inner", "trained"}
"""A process group, a budget, a generator, a class, an optimizer: no text stands for them."""


@pytest.mark.parametrize("name", eq.list_balancers())
def test_a_method_has_the_options_of_its_signature_and_of_its_kind(name):
    kind = balancer_class(name)
    own = set(inspect.signature(kind).parameters) - {"losses", "options"}
    common = AggregationOptions if issubclass(kind, eq.Aggregation | eq.CRMOGM) else BalancerOptions
    assert set(options_of(kind)) == own | set(common.__annotations__)


@pytest.mark.parametrize("name", eq.list_balancers())
def test_every_option_is_one_that_the_constructor_takes_at_its_default(name):
    kind = balancer_class(name)
    for key, spec in options_of(kind).items():
        value = [1.0, 1.0] if spec.required else spec.default
        needed = {"weights": [1.0, 1.0]} if "weights" in options_of(kind) else {}
        assert isinstance(kind(2, **{**needed, key: value}), kind)


@pytest.mark.parametrize("name", eq.list_balancers())
def test_only_what_no_text_stands_for_comes_from_code(name):
    for key, spec in options_of(balancer_class(name)).items():
        assert spec.writable == (key not in CODE_ONLY), key


@pytest.mark.parametrize("name", eq.list_balancers())
def test_every_option_is_described(name):
    for spec in options_of(balancer_class(name)).values():
        assert spec.description.endswith("."), spec
        assert "`" not in spec.description


GREEK = {"alpha", "beta", "delta", "epsilon", "eta", "gamma", "lambda", "mu", "rho", "sigma", "tau"}


@pytest.mark.parametrize("name", method_names())
def test_a_description_says_more_than_the_symbol_of_the_formula(name):
    for spec in method_options(name).values():
        words = re.findall(r"[A-Za-z0-9]{2,}", spec.description.lower())
        assert len([word for word in words if word not in GREEK]) >= 3, spec


@pytest.mark.parametrize("kind", [eq.MTAdam, eq.AutoBalance, eq.MultiAdam])
def test_an_optimizer_has_the_options_of_its_signature(kind):
    expected = set(inspect.signature(kind).parameters) - {"params", "losses"}
    assert set(options_of(kind)) == expected
    assert {key for key, spec in options_of(kind).items() if not spec.writable} == {"process_group"}


def test_choices_are_found_behind_aliases_and_unions():
    options = options_of(eq.GradNorm)
    assert options["optimizer"].choices == ("adam", "sgd")
    assert options["wrt"].choices == ("shared", "last_shared", "representation")
    assert options["alpha"].choices == ()


def test_a_required_option_has_no_default():
    assert options_of(eq.Fixed)["weights"].required
    assert not options_of(eq.GradNorm)["floor"].required


class Shared(TypedDict, total=False):
    rate: float
    place: torch.nn.Module | None


class Extended(Shared, total=False):
    mode: Literal["a", "b"] | None


class Base:
    def __init__(self, losses: int, **options: Unpack[Extended]) -> None:
        self.options = options


class Method(Base):
    """A method whose bases name their options in a TypedDict alone.

    Args:
        gain: Said
            in two lines. And a second sentence.
    """

    def __init__(self, losses: int, *, gain: float = 2.0, **options: Unpack[Extended]) -> None:
        super().__init__(losses, **options)


def test_options_that_only_a_typed_dict_names_are_found_too():
    options = options_of(Method)
    assert list(options) == ["gain", "rate", "place", "mode"]
    assert [options[key].writable for key in options] == [True, True, False, True]
    assert options["mode"].choices == ("a", "b")
    assert options["rate"].default is ...
    assert options["gain"].description == "Said in two lines."


class Closed(Method):
    def __init__(self, losses: int) -> None:
        super().__init__(losses, gain=1.0)


def test_a_constructor_without_further_options_hides_those_of_its_bases():
    assert options_of(Closed) == {}
