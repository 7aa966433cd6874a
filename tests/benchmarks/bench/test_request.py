from __future__ import annotations

import pytest

import equipoise as eq
from equipoise.benchmarks.bench.request import (
    PriceRequest,
    parse_counts,
    parse_models,
    parse_priced_methods,
    parse_wrt,
)
from equipoise.benchmarks.refusal import RequestError


def test_all_is_every_balancer_and_optimizer():
    names = [method.name for method in parse_priced_methods("all")]
    assert sorted(names) == sorted([*eq.list_balancers(), *eq.list_optimizers()])


def test_fixed_needs_no_weights_here():
    assert [m.label for m in parse_priced_methods("fixed, equal")] == ["fixed", "equal"]


@pytest.mark.parametrize("text", ["", "gradnrom", "fixed,gradnrom"])
def test_wrong_methods_are_refused(text):
    with pytest.raises(RequestError):
        parse_priced_methods(text)


@pytest.mark.parametrize("text", ["", "0", "2,x", "-3", "2,,5"])
def test_what_is_no_list_of_positive_numbers_is_refused_by_the_options_name(text):
    with pytest.raises(RequestError, match="--every"):
        parse_counts("--every", text)


def test_a_model_given_twice_is_measured_once():
    assert parse_models("conv, MLP,conv") == ("conv", "mlp")


def test_wrt_is_one_of_the_named_choices():
    assert parse_wrt("last_shared") == "last_shared"
    assert parse_wrt(None) is None
    with pytest.raises(RequestError, match="shared, last_shared or representation"):
        parse_wrt("trunk")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"losses": (1,)}, "--losses are at least 2"),
        ({"models": ("resnet",)}, "there are mlp, conv, transformer, pinn"),
        ({"rounds": 1}, "--rounds is at least 2"),
        ({"device": "tpu"}, "--device is cpu or cuda"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(wrong, message):
    usual = {"methods": [], "losses": (2,), "models": ("mlp",), "rounds": 2}
    with pytest.raises(RequestError, match=message):
        PriceRequest(**{**usual, **wrong})
