"""ZeRO, with the real package where it is installed."""

from __future__ import annotations

import copy
import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import equipoise as eq

WORKER = Path(__file__).with_name("deepspeed_processes.py")
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed"
)


def run(processes, *arguments):
    """What the first process printed, and whether all went well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    path = os.pathsep.join(sys.path)
    started = [
        subprocess.Popen(
            [sys.executable, WORKER, *map(str, arguments)],
            env=os.environ
            | shared
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": path}
            | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    printed = [process.communicate(timeout=200)[0] for process in started]
    return printed[0], all(process.returncode == 0 for process in started)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_weighting_trains_as_deepspeed_alone_with_its_weights(stage) -> None:
    printed, well = run(2, stage, "uncertainty", "-", "inside")
    assert well, printed[-3000:]


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(
    "arguments", [(1, "mgda", "-", "outside"), (2, "mgda", "representation", "outside")]
)
def test_gradients_are_measured_where_every_process_has_them_whole(arguments) -> None:
    printed, well = run(2, *arguments)
    assert well, printed[-3000:]


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((2, "mgda", "-", "outside"), "ZeRO 2 of DeepSpeed keeps gradients in parts"),
        ((3, "gradnorm", "-", "outside"), "ZeRO 3 of DeepSpeed keeps gradients in parts"),
        ((3, "mgda", "representation", "inside"), "ZeRO 3 of DeepSpeed keeps gradients in parts"),
        ((1, "mgda", "-", "inside"), "with `engine.module(...)` in place of `engine(...)`"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_the_first_step(arguments, said) -> None:
    printed, well = run(1, *arguments)
    assert not well
    assert said in printed


class Engine:
    """As much of a DeepSpeed engine as tells its stage."""

    def __init__(self, stage):
        self.stage = stage
        self.passes = 0

    def zero_optimization_stage(self):
        return self.stage

    def backward(self, loss):
        self.passes += 1
        loss.backward()


def two_losses():
    trunk, heads = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
    return trunk, list(heads(trunk(torch.ones(4, 2)).tanh()).square().mean(dim=0))


@pytest.mark.parametrize("stage", [2, 3])
def test_the_refusal_names_ways_out_and_comes_before_anything_moves(stage) -> None:
    trunk, losses = two_losses()
    engine, balancer = Engine(stage), eq.GradNorm(2)
    before = copy.deepcopy(balancer.state_dict())
    with pytest.raises(TypeError, match=r"FSDP2.*`wrt=\"representation\"`.*`Weighting`"):
        balancer.backward(losses, backward=engine.backward)
    assert engine.passes == 0
    assert trunk.weight.grad is None
    after = balancer.state_dict()
    assert before.pop("calls") == 0
    after.pop("calls")
    torch.testing.assert_close(dict(after), dict(before), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["uncertainty", "equal"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_weighting_goes_through_the_engine_once(name, stage) -> None:
    trunk, losses = two_losses()
    engine = Engine(stage)
    eq.create_balancer(name, 2).backward(losses, backward=engine.backward)
    assert engine.passes == 1
    assert trunk.weight.grad is not None
