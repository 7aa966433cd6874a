from __future__ import annotations

import pytest

import equipoise as eq


def test_every_listed_name_is_a_class_of_the_package() -> None:
    public = {name.lower() for name in eq.__all__}
    assert set(eq.list_balancers()) <= public


@pytest.mark.parametrize("name", ["gradnorm", "GradNorm", "grad-norm", "grad_norm"])
def test_names_are_read_in_any_case_and_spelling(name) -> None:
    balancer = eq.create_balancer(name, ["a", "b"], alpha=0.12)
    assert isinstance(balancer, eq.GradNorm)
    assert balancer.alpha == 0.12


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'gradnorm'"):
        eq.create_balancer("gradnrom", 2)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="beta"):
        eq.create_balancer("gradnorm", 2, beta=1)
