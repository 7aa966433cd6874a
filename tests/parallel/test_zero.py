"""What ZeRO 3 leaves on a parameter, without DeepSpeed; with it: tests/integrations."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

import equipoise as eq
from tests.methods import NAMES, make, of_kind


@pytest.fixture
def partitioned(monkeypatch):
    """A model of which one parameter carries the mark of a partition."""
    monkeypatch.setitem(sys.modules, "deepspeed", ModuleType("deepspeed"))
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].weight.ds_id = 0
    return model


def losses(model):
    return dict(zip("abc", model(torch.ones(2, 3)).square().mean(dim=0), strict=True))


def refused(balancer, model) -> None:
    with pytest.raises(TypeError, match="ZeRO 3 of DeepSpeed keeps gradients in parts"):
        balancer.backward(losses(model))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted({*NAMES} - {*of_kind(looks_at="losses")}))
def test_a_method_that_looks_at_gradients_is_refused_before_anything_is_written(name, partitioned):
    refused(make(name), partitioned)


def test_so_are_wrappers_that_measure_by_themselves(partitioned) -> None:
    names = ["a", "b", "c"]
    refused(eq.Shares(eq.Uncertainty(names), [1.0, 2.0, 3.0]), partitioned)
    refused(eq.PerModule(eq.UPGrad(names), {"first": partitioned[0]}), partitioned)


def test_a_method_that_looks_at_losses_goes_on(partitioned) -> None:
    eq.Uncertainty(["a", "b", "c"]).backward(losses(partitioned))
    assert all(parameter.grad is not None for parameter in partitioned.parameters())
