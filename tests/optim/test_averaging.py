from __future__ import annotations

import pytest
import torch
from torch import distributed

from equipoise.optim import AutoBalance, MTAdam, MultiAdam
from tests.models import MultiHead
from tests.optim.processes import Plan, run
from tests.parallel.ranks import together

SOMETIMES = frozenset({(0, "b"), (3, "a"), (3, "c"), (7, "b")})
PLANS = {
    "plain": Plan(),
    "plain, packed not": Plan({"foreach": False}),
    "plain, on the device": Plan({"on_device": True}),
    "plain, by layer": Plan({"granularity": "layer", "weight_decay": 0.1, "amsgrad": True}),
    "wrapped": Plan(wrapped={}),
    "wrapped, unused sought": Plan(wrapped={"find_unused_parameters": True}),
    "wrapped, static graph": Plan(wrapped={"static_graph": True}),
    "wrapped, bucket views": Plan(wrapped={"gradient_as_bucket_view": True}),
    "absent": Plan(absent=SOMETIMES),
    "absent, wrapped": Plan(absent=SOMETIMES, wrapped={"find_unused_parameters": True}),
    "absent, on the device": Plan({"on_device": True}, absent=SOMETIMES),
    "accumulated": Plan(micro_batches=2),
    "accumulated, absent, wrapped": Plan(micro_batches=2, absent=SOMETIMES, wrapped={}),
    "scaled": Plan(scaled=True, absent=SOMETIMES),
    "spoiled": Plan(spoiled=SOMETIMES),
    "spoiled, accumulated": Plan(spoiled=SOMETIMES, micro_batches=2),
    "spoiled, scaled": Plan(spoiled=SOMETIMES, scaled=True),
    "spoiled, on the device": Plan({"on_device": True}, spoiled=SOMETIMES),
    "steep": Plan(steep=SOMETIMES),
    "steep, on the device": Plan({"on_device": True}, steep=SOMETIMES),
    "heads beside": Plan(beside=True),
    "heads beside, wrapped, accumulated": Plan(beside=True, wrapped={}, micro_batches=2),
    "heads beside, absent": Plan(beside=True, absent=SOMETIMES - {(0, "b")}, steep={(7, "a")}),
    "AutoBalance, heads beside, spoiled": Plan(
        optimizer=AutoBalance, beside=True, spoiled=SOMETIMES
    ),
    "AutoBalance": Plan(optimizer=AutoBalance, absent=SOMETIMES),
    "MultiAdam": Plan(optimizer=MultiAdam, absent=SOMETIMES),
    "AutoBalance, wrapped, accumulated": Plan(
        optimizer=AutoBalance, wrapped={}, micro_batches=2, spoiled=SOMETIMES
    ),
    "AutoBalance, scaled": Plan(optimizer=AutoBalance, scaled=True, spoiled=SOMETIMES),
    "AutoBalance, on the device": Plan(
        {"on_device": True}, optimizer=AutoBalance, absent=SOMETIMES, steep=SOMETIMES
    ),
}


def train_all(rank, count):
    trained = {name: run(plan, [rank], count) for name, plan in PLANS.items()}
    if count == 2:
        trained["refused"] = refuse(rank)
    else:
        pairs = [distributed.new_group([0, 1]), distributed.new_group([2])]
        trained["in pairs"] = run(Plan({"process_group": pairs[rank // 2]}), [rank], count)
    return trained


def refuse(rank):
    """The errors that a loss, a gradient and a name on one process give."""
    errors = []
    for scale in (float("nan"), 1.0):
        model = MultiHead(2)
        optimizer = MTAdam(model.parameters(), nonfinite="raise", losses=["a", "b"])
        first, second = model(torch.ones(2, 4, dtype=torch.float64))
        if rank == 1:
            second = (second - second.detach()).abs().sqrt() * scale
        with pytest.raises(ValueError, match="oss 'b' is NaN or infinite") as error:
            optimizer.backward({"a": first, "b": second})
        errors.append(str(error.value))
    weight = torch.ones(2).requires_grad_()
    with pytest.raises(ValueError, match=r"another process has others.*losses="):
        MTAdam([weight]).backward({"a": weight.sum()} if rank else {"b": weight.sum()})
    return errors


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return together(train_all, 2, tmp_path_factory.mktemp("two"), start_method="spawn")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return together(train_all, 3, tmp_path_factory.mktemp("three"))


@pytest.fixture(params=[2, 3], ids="{} processes".format)
def trained(request):
    return request.getfixturevalue({2: "two", 3: "three"}[request.param])


def assert_close(trained, alone):
    for many, one in zip(trained, alone, strict=True):
        torch.testing.assert_close(many, one, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", PLANS)
def test_processes_agree_bit_for_bit(trained, name):
    for other in trained[1:]:
        assert all(map(torch.equal, trained[0][name], other[name]))


@pytest.mark.parametrize("name", PLANS)
def test_processes_equal_one_with_the_whole_batch(trained, name):
    count = len(trained)
    assert_close(trained[0][name], run(PLANS[name], range(count), count))


def test_a_process_group_limits_who_averages(three):
    first, second, third = (each["in pairs"] for each in three)
    assert all(map(torch.equal, first, second))
    assert_close(first, run(Plan(), [0, 1], 3))
    assert_close(third, run(Plan(), [2], 3))


def test_what_one_process_must_refuse_every_process_refuses(two):
    first, second = (each["refused"] for each in two)
    assert first == second
