from __future__ import annotations

import posixpath
import re

import pytest
import torch

import equipoise as eq
from equipoise.record import safe_names
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
    assert record.report()["cosine/a:b"] == -0.5
    assert sum("cosine" in name for name in record.report()) == 1


AWKWARD = ("L~1", "L@1", "L_1", "a:b", "b", "a", "b:b", "größe", "", ".", "x/../y", "/abs", "tab\t")


def test_report_keys_hold_what_every_tracker_takes_and_no_two_are_alike() -> None:
    count = len(AWKWARD)
    record = eq.Record(
        names=AWKWARD,
        present=tuple(range(count)),
        losses=torch.arange(count).double(),
        weights=torch.ones(count),
        total=torch.tensor(1.0),
        norms=torch.ones(count),
        cosines=torch.eye(count),
    )
    report = record.report()
    assert len(report) == 3 * count + count * (count - 1) // 2 + 1
    for key in report:
        assert re.fullmatch(r"[\w\-./: ]+", key), key
        assert posixpath.normpath(key) == key, key  # trackers make files of names


def test_names_that_are_fine_stay_as_they_are_whatever_stands_beside_them() -> None:
    assert safe_names(("L~1", "L_1", "aux/depth", "a b")) == ("L_1-2", "L_1", "aux/depth", "a b")


def test_the_record_is_detached_and_keeps_the_plain_total_whatever_the_weights() -> None:
    losses = MultiHead(2)(batch())
    record = eq.Uncertainty(2, initial=-3.0).backward(losses)
    assert not record.losses.requires_grad
    assert not record.weights.requires_grad
    torch.testing.assert_close(record.total, sum(loss.detach() for loss in losses))


def test_a_closure_that_returns_a_record_is_told_what_to_return() -> None:
    model = MultiHead(2)
    lbfgs, balancer = torch.optim.LBFGS(model.parameters()), eq.GradNorm(2)
    with pytest.raises(TypeError, match=r"`loss = balancer\(losses\)`"):
        lbfgs.step(lambda: balancer.backward(model(batch())))
