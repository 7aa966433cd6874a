from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.options import options_of
from equipoise.registry import balancer_class
from tests.methods import NAMES

NEEDED = {"fixed": {"weights": [1.0, 2.0]}}
AGGREGATIONS = [name for name in NAMES if "wrt" in options_of(balancer_class(name))]


def make(name, **options) -> eq.Balancer:
    return eq.create_balancer(name, ["a", "b"], **NEEDED.get(name, {}), **options)


@pytest.mark.parametrize("name", eq.list_balancers())
def test_the_repr_shows_the_losses_and_the_options_that_were_given(name) -> None:
    shown = repr(make(name, nonfinite="raise", priorities={"a": 0.5}))
    assert shown.startswith(f"{balancer_class(name).__name__}(")
    assert "a, b, " in shown
    assert "nonfinite='raise'" in shown
    assert "priorities={'a': 0.5}" in shown
    assert "every" not in shown


@pytest.mark.parametrize("name", eq.list_balancers())
def test_a_mistyped_option_is_refused_at_construction_and_the_nearest_proposed(name) -> None:
    for option in options_of(balancer_class(name)):
        mistyped = option[:1] + option[2:] + option[1:2] + "_"
        with pytest.raises(TypeError, match=rf"has no option `{mistyped}`\. Did you mean `\w+`\?"):
            make(name, **{mistyped: None})


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("mistyped", ["last_sahred", "shraed", "representatoin"])
def test_a_mistyped_wrt_is_refused_at_construction_and_the_nearest_proposed(name, mistyped) -> None:
    with pytest.raises(ValueError, match=rf"`wrt` is '{mistyped}'; write .*\. Did you mean '"):
        make(name, wrt=mistyped)


@pytest.mark.parametrize("name", eq.list_optimizers())
def test_a_mistyped_option_of_an_optimizer_is_refused_too(name) -> None:
    with pytest.raises(TypeError, match=r"has no option `graphles`\. Did you mean `graphless`\?"):
        eq.create_optimizer(name, [torch.ones(2, requires_grad=True)], graphles="absent")


def numbers_of(kind: type) -> list[str]:
    """The options whose default is a number."""
    defaults = {name: option.default for name, option in options_of(kind).items()}
    return [name for name, default in defaults.items() if type(default) in (int, float)]


@pytest.mark.parametrize("name", eq.list_balancers())
def test_a_number_that_came_as_text_is_refused_at_construction(name) -> None:
    for option in numbers_of(balancer_class(name)):
        with pytest.raises(TypeError, match=f"`{option}` is '1e-3', which is text; give a number"):
            make(name, **{option: "1e-3"})


@pytest.mark.parametrize("kind", [eq.AutoBalance, eq.MTAdam, eq.MultiAdam])
def test_a_number_of_an_optimizer_that_came_as_text_is_refused_too(kind) -> None:
    parameters = [torch.ones(2, requires_grad=True)]
    for option in numbers_of(kind):
        with pytest.raises(TypeError, match=f"`{option}` is '1e-3', which is text; give a number"):
            kind(parameters, **{option: "1e-3"})
    with pytest.raises(TypeError, match="`lr` is '1e-3', which is text"):
        kind(parameters, "1e-3")
    with pytest.raises(ValueError, match="`lr` is '1e-3'; it must be a finite number"):
        kind([{"params": parameters, "lr": "1e-3"}])


@pytest.mark.parametrize("name", eq.list_balancers())
def test_a_report_before_the_first_step_says_what_to_do(name) -> None:
    with pytest.raises(RuntimeError, match=r"There was no step yet; call `backward\(losses\)`"):
        make(name).report()


def test_defaults_are_not_shown_and_what_was_changed_since_is_shown_as_it_is() -> None:
    assert repr(eq.DWA(["a"], temperature=2.0)) == "DWA(a)"
    balancer = eq.DWA(["a"], temperature=3.0, window=None)
    balancer.temperature = 4.0
    assert repr(balancer) == "DWA(a, temperature=4.0, window=None)"


def test_wrappers_show_their_options_around_those_of_the_method() -> None:
    shown = repr(eq.Primary(eq.GradNorm(["a", "b"], alpha=0.5), "a"))
    assert "primary='a'" in shown
    assert "GradNorm(a, b, alpha=0.5)" in shown


def test_large_values_are_told_in_a_word() -> None:
    shown = repr(eq.GradNorm(["a", "b"], wrt=nn.Linear(3, 3), priorities={"a": eq.Ramp(0, 1, 5)}))
    assert shown == "GradNorm(a, b, wrt=Linear, priorities={'a': Ramp})"


def test_only_words_are_kept_for_the_repr_so_that_nothing_lives_on_through_it() -> None:
    balancer = eq.MGDA(["a", "b"], trained=nn.Linear(2, 2), priorities={"a": torch.tensor(2.0)})
    assert all(type(value) is str for value in vars(balancer)["_told"].values())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])  # noqa: S301
def test_copies_are_told_the_same(again) -> None:
    balancer = eq.GradNorm(["a", "b"], alpha=0.5)
    assert repr(again(balancer)) == repr(balancer) == "GradNorm(a, b, alpha=0.5)"


def test_a_method_of_a_users_own_has_it_too_and_may_take_keywords_apart_itself() -> None:
    class Mine(eq.Weighting):
        """A constructor that hides an option in its keywords."""

        def __init__(self, losses, *, strength=1.0, **options) -> None:
            options.pop("hidden", None)
            super().__init__(losses, **options)
            self.strength = strength

        def _weigh(self, values):
            return self.strength * values

    assert repr(Mine(["a"], strength=2.0, hidden=1)) == "Mine(a, strength=2.0, hidden=1)"
    with pytest.raises(TypeError, match="Did you mean `strength`"):
        Mine(["a"], stregnth=2.0)
