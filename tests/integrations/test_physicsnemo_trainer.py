"""The real trainer of PhysicsNeMo Sym on a problem of two losses.

Its source distribution does not build without a CUDA compiler, so no environment of ours has it.
Unpacked, with `hydra-core`, `pint`, `sympy`, `symengine`, `termcolor` and `matplotlib` beside it,
its configuration and trainer import on a CPU, and this file runs.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip(
    "physicsnemo.sym.trainer", reason="nvidia-physicsnemo-sym 2.x is not on the path"
)

import hydra
from hydra.errors import ConfigCompositionException
from physicsnemo.sym.distributed import DistributedManager
from physicsnemo.sym.hydra import utils as physicsnemo_configs
from physicsnemo.sym.trainer import Trainer

from equipoise.integrations.physicsnemo import BalancedAggregator, register_loss_config

pytestmark = pytest.mark.filterwarnings("ignore")  # PhysicsNeMo's and Hydra's own

EXAMPLE = Path(__file__).parents[2] / "examples" / "physicsnemo_aggregator.py"
CONFIGURATION = runpy.run_path(str(EXAMPLE))["CONFIGURATION"]
LENGTH = """
network_dir: {folder}
training:
  max_steps: {steps}
  save_network_freq: 5
  rec_constraint_freq: 1000
"""


class Network(nn.Module):
    checkpoint_filename = "network.pth"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 2))

    def save(self, folder):
        torch.save(self.layers.state_dict(), f"{folder}/{self.checkpoint_filename}")

    def load(self, folder, map_location):
        self.layers.load_state_dict(torch.load(f"{folder}/{self.checkpoint_filename}"))


class Problem(Trainer):
    """What a `Solver` takes from its domain, for a domain without geometry."""

    def __init__(self, config):
        super().__init__(config)
        self.network = Network()
        self.network_dir = config.network_dir

    def compute_losses(self, step):
        generator = torch.Generator().manual_seed(int(step))
        wall, residual = self.network.layers(torch.randn(16, 1, generator=generator)).unbind(1)
        return {"u": (wall - 1).square().mean(), "diffusion": 100 * residual.square().mean()}

    def get_num_losses(self):
        return 2

    def get_saveable_models(self):
        return [self.network]

    def create_global_optimizer_model(self):
        return nn.ModuleList([self.network])

    def load_network(self):
        parts = self.optimizer, self.aggregator, self.scheduler, self.scaler, self.deriv_scalers
        place = self.network_dir, self.saveable_models
        return self._load_network("", *place, *parts, self.log, self.manager, self.device)

    def save_checkpoint(self, step):
        parts = self.optimizer, self.aggregator, self.scheduler, self.scaler, self.deriv_scalers
        self._save_checkpoint(self.network_dir, self.saveable_models, *parts, step)

    def load_data(self, static=False):
        pass

    def record_constraints(self):
        pass

    has_monitors = has_validators = has_inferencers = False


@pytest.fixture(autouse=True)
def without_a_profiler(monkeypatch):
    """PyTorch for the CPU has no marks for NVIDIA's profiler, which the trainer sets always."""
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", lambda _name: None)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: None)
    DistributedManager.initialize()


def config(folder, steps=10, text=CONFIGURATION):
    for name in dir(physicsnemo_configs):
        if name.startswith("register_"):
            getattr(physicsnemo_configs, name)()
    register_loss_config()
    length = LENGTH.format(folder=folder / "network", steps=steps)
    (folder / "config.yaml").write_text(text + length)
    with hydra.initialize_config_dir(str(folder), version_base=None):
        return hydra.compose("config")


def trained(folder, steps=10):
    problem = Problem(config(folder, steps))
    problem._train_loop()
    return problem


def test_the_configuration_of_the_example_trains_and_the_option_names_the_residual(tmp_path):
    problem = trained(tmp_path)
    balancer = problem.aggregator.balancer
    assert isinstance(problem.aggregator, BalancedAggregator)
    assert balancer.names == ("u", "diffusion")
    assert balancer.weights["diffusion"] == 1
    assert balancer.weights["u"] > 1
    assert int(balancer.state_dict()["calls"]) == 11


def test_the_trainer_takes_no_fields_that_no_configuration_declares(tmp_path):
    target = "  _target_: equipoise.integrations.physicsnemo.BalancedAggregator\n  method:"
    text = CONFIGURATION.replace("loss: equipoise", "loss: sum").replace("  method:", target)
    with pytest.raises(ConfigCompositionException, match="method"):
        config(tmp_path, text=text)


def test_the_trainer_saves_the_balancer_and_resumes_it_before_its_first_call(tmp_path):
    saved = trained(tmp_path, steps=5)
    resumed = Problem(config(tmp_path, steps=10))
    resumed._train_loop(sigterm_handler=lambda: True)
    assert resumed.initial_step == 5
    expected = saved.aggregator.state_dict()
    found = resumed.aggregator.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert resumed.aggregator.balancer.weights == saved.aggregator.balancer.weights


def test_torchscript_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(TypeError, match="jit: false"):
        Problem(
            config(tmp_path, text=CONFIGURATION.replace("jit: false", "jit: true"))
        )._train_loop()
