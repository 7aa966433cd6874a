from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
from tests.methods import NAMES

pytest.importorskip("transformers")

from transformers import TrainingArguments
from transformers.utils import ModelOutput

from equipoise.integrations.transformers import BalancedTrainer


class Model(torch.nn.Module):
    """Returns its losses by name, beside its prediction."""

    def __init__(self, dtype=torch.float64) -> None:
        super().__init__()
        self.inner = ThreeLosses(dtype=dtype)

    def forward(self, x):
        hidden = self.inner.net.trunk(x)
        return ModelOutput(**self.inner(x), hidden=hidden)


class Nested(Model):
    """Returns them as detectors do."""

    def forward(self, x):
        return {"loss_dict": {**self.inner(x), "cardinality": x.sum()}}


def trainer(balancer, data, folder, *, model=None, **options) -> BalancedTrainer:
    model = model or Model()
    quiet = {
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "train_sampling_strategy": "sequential",
        "max_grad_norm": 0.0,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "num_train_epochs": 1,
    }
    optimizer = sgd(model)
    made = BalancedTrainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **{**quiet, **options}),
        train_dataset=[{"x": row} for row in torch.cat(data)],
        eval_dataset=[{"x": row} for row in data[0]],
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
    )
    made.balance(balancer)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_as_in_the_plain_loop(name, tmp_path) -> None:
    data = batches(3)
    made = trainer(balancer_of(name), data, tmp_path)
    made.train()
    assert difference(plain_loop(balancer_of(name), data), made.model.inner) < 1e-10


@pytest.mark.parametrize("name", ["gradnorm", "pcgrad", "graddrop", "uncertainty"])
def test_accumulation_learns_at_the_first_micro_batch_of_each_step(name, tmp_path) -> None:
    data = batches(6)
    made = trainer(balancer_of(name), data, tmp_path, gradient_accumulation_steps=2)
    made.train()
    assert difference(plain_loop(balancer_of(name), data, accumulate=2), made.model.inner) < 1e-10


@pytest.mark.parametrize("name", ["gradnorm", "graddrop", "softadapt"])
def test_bf16_equals_the_plain_loop_under_autocast(name, tmp_path) -> None:
    data = batches(3, dtype=torch.float32)
    made = trainer(balancer_of(name), data, tmp_path, model=Model(torch.float32), bf16=True)
    made.train()
    lowered = {"dtype": torch.float32, "autocast": torch.bfloat16}
    expected = plain_loop(balancer_of(name), data, **lowered)
    assert difference(expected, made.model.inner) < 1e-6


def test_losses_in_a_loss_dict_are_found_and_other_entries_left_alone(tmp_path) -> None:
    data = batches(3)
    made = trainer(eq.GradNorm(LOSSES), data, tmp_path, model=Nested())
    made.train()
    assert difference(plain_loop(eq.GradNorm(LOSSES), data), made.model.inner) < 1e-10


def test_each_loss_and_weight_is_logged_under_its_name_and_the_loss_is_the_plain_sum(
    tmp_path,
) -> None:
    made = trainer(
        eq.GradNorm(LOSSES), batches(2), tmp_path, logging_strategy="steps", logging_steps=1
    )
    made.train()
    first = made.state.log_history[0]
    assert {"loss/a", "weight/b", "grad_norm/c", "total"} <= set(first)
    assert first["loss"] == pytest.approx(first["total"])
    assert first["total"] == pytest.approx(sum(first[f"loss/{name}"] for name in LOSSES))


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
def test_evaluation_reports_the_plain_sum_and_teaches_the_balancer_nothing(tmp_path) -> None:
    data, balancer = batches(2), eq.GradNorm(LOSSES)
    made = trainer(balancer, data, tmp_path, label_names=["x"])
    found = made.evaluate()
    expected = sum(loss.item() for loss in ThreeLosses()(data[0]).values())
    assert found["eval_loss"] == pytest.approx(expected)
    assert balancer.last is None
    assert made.predict(made.eval_dataset).predictions.shape == (4, 5)


@pytest.mark.parametrize("name", ["gradnorm", "graddrop", "softadapt", "pcgrad", "famo"])
def test_a_resumed_run_ends_bit_for_bit_where_the_whole_run_ends(name, tmp_path) -> None:
    data = batches(4)
    saving = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 1}
    whole = trainer(balancer_of(name), data, tmp_path, **saving)
    whole.train()
    resumed = trainer(balancer_of(name), data, tmp_path, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert difference(whole.model, resumed.model) == 0
    assert resumed.balancer.weights == whole.balancer.weights
    again = trainer(balancer_of(name), data, tmp_path, **saving)
    again.train(resume_from_checkpoint=True)
    assert again.balancer.mean_weights == whole.balancer.mean_weights


def test_a_checkpoint_without_a_balancer_resumes_with_a_warning(tmp_path) -> None:
    data = batches(4)
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer(eq.GradNorm(LOSSES), data, tmp_path, **saving).train()
    (tmp_path / "checkpoint-2" / "balancer.pt").unlink()
    resumed = trainer(eq.GradNorm(LOSSES), data, tmp_path, **saving)
    with pytest.warns(UserWarning, match="the balancer starts afresh"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_a_trainer_without_a_balancer_says_what_to_call(tmp_path) -> None:
    made = trainer(eq.GradNorm(LOSSES), batches(1), tmp_path)
    del made.balancer
    with pytest.raises(RuntimeError, match="No balancer is set"):
        made.train()


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batches(tmp_path) -> None:
    script = Path(__file__).with_name("transformers_two_processes.py")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, script, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all equal" in done.stdout


def with_optimizer(kind, data, folder, **options) -> BalancedTrainer:
    made = trainer(eq.Equal(LOSSES), data, folder, **options)
    del made.balancer
    made.optimizer = kind(made.model.parameters(), losses=LOSSES)
    made.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(made.optimizer, factor=1.0)
    return made


@pytest.mark.parametrize("kind", [eq.MTAdam, eq.AutoBalance])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_multi_term_optimizer_trains_as_in_the_plain_loop(kind, accumulate, tmp_path) -> None:
    data = batches(6)
    made = with_optimizer(kind, data, tmp_path, gradient_accumulation_steps=accumulate)
    made.train()
    expected = multi_term_loop(kind, data, accumulate=accumulate)
    assert difference(expected, made.model.inner) < 1e-12


def test_a_multi_term_optimizer_is_logged_and_evaluated(tmp_path) -> None:
    data = batches(2)
    logging = {"logging_strategy": "steps", "logging_steps": 1, "label_names": ["x"]}
    made = with_optimizer(eq.MTAdam, data, tmp_path, **logging)
    made.train()
    first = made.state.log_history[0]
    assert {"loss/a", "weight/b", "total"} <= set(first)
    assert first["loss"] == pytest.approx(first["total"])
    assert made.evaluate()["eval_loss"] > 0


def test_a_multi_term_optimizer_resumes_bit_for_bit(tmp_path) -> None:
    data = batches(4)
    saving = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 1}
    whole = with_optimizer(eq.MTAdam, data, tmp_path, **saving)
    whole.train()
    resumed = with_optimizer(eq.MTAdam, data, tmp_path, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert difference(whole.model.inner, resumed.model.inner) == 0


def test_an_optimizer_without_names_is_told_what_it_needs(tmp_path) -> None:
    made = with_optimizer(eq.MTAdam, batches(1), tmp_path)
    made.optimizer = eq.MTAdam(made.model.parameters())
    with pytest.raises(RuntimeError, match=r"build it with their names, as `MTAdam\("):
        made.train()
