from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import equipoise as eq
from tests.integrations.loops import (
    LOSSES,
    ThreeLosses,
    balancer_of,
    batches,
    difference,
    multi_term_loop,
    plain_loop,
    sgd,
)
from tests.methods import NAMES, of_kind

pytest.importorskip("lightning")

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import MixedPrecision

from equipoise.integrations.lightning import BalancedModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]


# Where a method gives a loss's own parameters its plain gradient, one balanced loss cannot say so.
RETURNED = [
    name
    for name in of_kind(weighting=True)
    if getattr(balancer_of(name), "heads", "weighted") == "weighted"
]


class Automatic(BalancedModule):
    """All that a user writes."""

    def __init__(self, balancer, dtype=torch.float64) -> None:
        super().__init__(balancer)
        self.model = ThreeLosses(dtype=dtype)

    def training_step(self, batch, batch_idx):
        return self.balance(self.model(batch), batch_idx)

    def configure_optimizers(self):
        return sgd(self.model)


class Returned(LightningModule):
    """A weighting in any module: the balanced loss is returned."""

    def __init__(self, balancer) -> None:
        super().__init__()
        self.balancer = balancer
        self.model = ThreeLosses()

    def training_step(self, batch, batch_idx):
        return self.balancer(self.model(batch))

    def configure_optimizers(self):
        return sgd(self.model)


class Manual(Returned):
    """Manual optimization."""

    def __init__(self, balancer) -> None:
        super().__init__(balancer)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.balancer.backward(self.model(batch), backward=self.manual_backward)
        optimizer.step()


def trainer(**options) -> Trainer:
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{**quiet, **options})


def loader(data) -> DataLoader:
    return DataLoader(data, batch_size=None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_every_method_trains_as_in_the_plain_loop(kind, name) -> None:
    data = batches(3)
    module = kind(balancer_of(name))
    trainer().fit(module, loader(data))
    assert difference(plain_loop(balancer_of(name), data), module.model) < 1e-10


@pytest.mark.parametrize("name", RETURNED)
def test_every_weighting_trains_as_in_the_plain_loop_when_its_loss_is_returned(name) -> None:
    data = batches(3)
    module = Returned(balancer_of(name))
    trainer().fit(module, loader(data))
    assert difference(plain_loop(balancer_of(name), data), module.model) < 1e-10


@pytest.mark.parametrize("name", ["gradnorm", "pcgrad", "graddrop", "uncertainty"])
def test_accumulation_learns_at_the_first_batch_of_each_window(name) -> None:
    data = batches(6)
    module = Automatic(balancer_of(name))
    trainer(accumulate_grad_batches=2).fit(module, loader(data))
    assert difference(plain_loop(balancer_of(name), data, accumulate=2), module.model) < 1e-10


@pytest.mark.parametrize("name", ["gradnorm", "pcgrad", "graddrop", "mgda", "softadapt"])
@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_bf16_mixed_equals_the_plain_loop_under_autocast(kind, name) -> None:
    data = batches(3, dtype=torch.float32)
    module = kind(balancer_of(name))
    module.model = ThreeLosses(dtype=torch.float32)
    trainer(precision="bf16-mixed").fit(module, loader(data))
    expected = plain_loop(
        balancer_of(name),
        data,
        dtype=torch.float32,
        autocast=torch.bfloat16,
        backward=torch.Tensor.backward if kind is Manual else None,
    )
    assert difference(expected, module.model) < 1e-6


@pytest.mark.parametrize("name", ["gradnorm", "pcgrad", "graddrop", "mgda", "softadapt"])
def test_with_a_loss_scale_on_fp16_gradients_are_unscaled_before_the_step(name) -> None:
    data = batches(3, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    module = Automatic(balancer_of(name), dtype=torch.float32)
    precision = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    trainer(plugins=[precision]).fit(module, loader(data))
    half = {"dtype": torch.float32, "autocast": torch.float16}
    expected = plain_loop(balancer_of(name), data, **half)
    assert difference(ThreeLosses(dtype=torch.float32), module.model) > 1e-2
    assert difference(expected, module.model) < 1e-3


def test_an_overflow_under_a_loss_scale_skips_the_step_and_moves_no_weight() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    balancer = eq.GradNorm(LOSSES)
    module = Automatic(balancer, dtype=torch.float32)
    precision = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    trainer(plugins=[precision]).fit(module, loader(batches(1, dtype=torch.float32)))
    assert difference(ThreeLosses(dtype=torch.float32), module.model) == 0
    assert scaler.get_scale() == 2.0**39
    assert torch.isfinite(balancer.resting).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_resumed_from_a_checkpoint_ends_bit_for_bit_where_the_whole_run_ends(
    name, tmp_path
) -> None:
    data = batches(3)
    whole = Automatic(balancer_of(name))
    trainer(max_epochs=4).fit(whole, loader(data))
    first = trainer(max_epochs=2)
    first.fit(Automatic(balancer_of(name)), loader(data))
    first.save_checkpoint(tmp_path / "last.ckpt")
    resumed = Automatic(balancer_of(name))
    trainer(max_epochs=4).fit(resumed, loader(data), ckpt_path=tmp_path / "last.ckpt")
    assert difference(whole.model, resumed.model) == 0
    assert resumed.balancer.mean_weights == whole.balancer.mean_weights


def test_each_loss_weight_and_norm_is_logged_under_its_name(tmp_path) -> None:
    logger = CSVLogger(tmp_path)
    module = Automatic(eq.GradNorm(LOSSES))
    trainer(logger=logger, log_every_n_steps=2).fit(module, loader(batches(4)))
    header, *rows = Path(logger.log_dir, "metrics.csv").read_text().split()
    assert {"loss/a", "weight/b", "grad_norm/c", "total"} <= set(header.split(","))
    assert len(rows) == 2


def test_clipping_and_a_scheduler_of_lightning_apply_to_the_balanced_gradient() -> None:
    norms = []

    class Clipped(Automatic):
        def on_before_optimizer_step(self, optimizer) -> None:
            norms.append(torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters()]))

    module = Clipped(eq.PCGrad(LOSSES))
    trainer(gradient_clip_val=0.01).fit(module, loader(batches(2)))
    before = ThreeLosses()
    assert all(norm > 0.02 for norm in norms)
    assert difference(before, module.model) < 0.05 * 0.01 * (1 + 1.9)


def test_a_step_that_does_not_balance_goes_backward_as_ever() -> None:
    class Unbalanced(Automatic):
        def training_step(self, batch, batch_idx):
            return sum(self.model(batch).values())

    module, data = Unbalanced(eq.PCGrad(LOSSES)), batches(2)
    trainer().fit(module, loader(data))
    assert difference(plain_loop(eq.Equal(LOSSES), data), module.model) < 1e-12


@pytest.mark.slow
def test_two_processes_under_ddp_equal_one_with_the_whole_batches() -> None:
    script = Path(__file__).with_name("lightning_two_processes.py")
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all equal" in done.stdout


class TakenApart(BalancedModule):
    """A multi-term optimizer in place of a balancer."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.kind, self.model = kind, ThreeLosses()

    def training_step(self, batch, batch_idx):
        return self.balance(self.model(batch), batch_idx)

    def configure_optimizers(self):
        return self.kind(self.model.parameters(), losses=LOSSES)


class TakenApartByHand(TakenApart):
    """The same in manual optimization, where Lightning steps with a closure that returns None."""

    def __init__(self, kind) -> None:
        super().__init__(kind)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        optimizer.backward(self.model(batch))
        optimizer.step()


@pytest.mark.parametrize("kind", [eq.MTAdam, eq.AutoBalance])
@pytest.mark.parametrize("module", [TakenApart, TakenApartByHand])
def test_a_multi_term_optimizer_trains_as_in_the_plain_loop(module, kind) -> None:
    data, trained = batches(4), module(kind)
    trainer().fit(trained, loader(data))
    assert difference(multi_term_loop(kind, data), trained.model) < 1e-12


@pytest.mark.parametrize("kind", [eq.MTAdam, eq.AutoBalance])
def test_a_multi_term_optimizer_accumulates_as_in_the_plain_loop(kind) -> None:
    data, trained = batches(6), TakenApart(kind)
    trainer(accumulate_grad_batches=2).fit(trained, loader(data))
    assert difference(multi_term_loop(kind, data, accumulate=2), trained.model) < 1e-12


def test_a_multi_term_optimizer_is_logged_clipped_and_resumed(tmp_path) -> None:
    data, options = batches(3), {"gradient_clip_val": 0.1, "log_every_n_steps": 1}
    whole = TakenApart(eq.MTAdam)
    logged = trainer(max_epochs=2, **options)
    logged.fit(whole, loader(data))
    assert {"loss/a", "weight/b", "total"} <= set(logged.callback_metrics)
    begun = trainer(**options)
    begun.fit(TakenApart(eq.MTAdam), loader(data))
    begun.save_checkpoint(tmp_path / "half.ckpt")
    resumed = TakenApart(eq.MTAdam)
    trainer(max_epochs=2, **options).fit(resumed, loader(data), ckpt_path=tmp_path / "half.ckpt")
    assert difference(whole.model, resumed.model) == 0


def test_neither_balancer_nor_multi_term_optimizer_is_told() -> None:
    module = TakenApart(lambda parameters, **_: torch.optim.SGD(parameters, lr=0.1))
    with pytest.raises(TypeError, match="SGD takes one gradient, not one per loss"):
        trainer().fit(module, loader(batches(1)))
