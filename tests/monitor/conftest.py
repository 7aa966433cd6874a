from __future__ import annotations

import pytest
import torch

import equipoise as eq
from tests.models import MultiHead, batch


def untouched(_: int, losses: dict) -> dict:
    return losses


@pytest.fixture
def train():
    """Trains a small network for some steps; losses may be spoilt or left out."""

    def run(balancer, steps: int, spoil=untouched):
        torch.manual_seed(0)
        model = MultiHead(3)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(steps):
            optimizer.zero_grad()
            losses = dict(zip(("near", "far", "sky"), model(batch()), strict=True))
            record = balancer.backward(spoil(step, losses))
            if record.total.isfinite():
                optimizer.step()
        return model

    return run


@pytest.fixture
def balancer():
    return eq.GradNorm(["near", "far", "sky"])


@pytest.fixture
def run_of(tmp_path, train):
    """A folder with the record of a training."""

    def make(name: str = "run", kind=eq.GradNorm, steps: int = 120, **options):
        balancer = kind(["near", "far", "sky"], **options)
        with eq.Recorder(balancer, tmp_path / name, every=2, measure=4):
            train(balancer, steps)
        return tmp_path / name

    return make
