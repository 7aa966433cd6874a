from __future__ import annotations

import torch

import equipoise as eq
from tests.models import MultiHead, batch


def test_the_report_is_flat_named_and_leaves_absent_losses_out() -> None:
    losses = MultiHead(3)(batch())
    balancer = eq.GradNorm(["a", "b", "c"], wrt="shared")
    balancer.backward({"a": losses[0], "c": losses[2]})
    report = balancer.report()
    assert set(report) == {
        "loss/a", "loss/c", "weight/a", "weight/c", "grad_norm/a", "grad_norm/c", "total",
    }  # fmt: skip
    assert all(isinstance(number, float) for number in report.values())
    assert report["total"] == (losses[0] + losses[2]).item()


def test_cosines_are_reported_once_a_pair() -> None:
    record = eq.Record(
        names=("a", "b"),
        present=(0, 1),
        losses=torch.ones(2),
        weights=torch.ones(2),
        total=torch.tensor(2.0),
        cosines=torch.tensor([[1.0, -0.5], [-0.5, 1.0]]),
    )
    assert record.report()["cosine/a~b"] == -0.5
    assert sum("cosine" in name for name in record.report()) == 1


def test_the_record_is_detached_and_keeps_the_plain_total_whatever_the_weights() -> None:
    losses = MultiHead(2)(batch())
    record = eq.Uncertainty(2, initial=-3.0).backward(losses)
    assert not record.losses.requires_grad
    assert not record.weights.requires_grad
    torch.testing.assert_close(record.total, sum(loss.detach() for loss in losses))
