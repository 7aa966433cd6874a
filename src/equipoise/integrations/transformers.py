"""Transformers: a ``Trainer`` for models that return several losses."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from equipoise.integrations import missing
from equipoise.integrations.balanced_loss import balanced_loss, plain_sum
from equipoise.integrations.multi_term_loss import behind, multi_term_loss, sum_of

try:
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint
except ModuleNotFoundError as error:
    raise missing("transformers") from error

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_utils import TrainOutput

    from equipoise.balancer import Balancer
    from equipoise.optim.base import MultiTermOptimizer

_FILE = "balancer.pt"


class BalancedTrainer(Trainer):
    """A ``Trainer`` that balances the losses a model returns, with any balancer.

    Call `balance` once, then ``train()``. Or pass an `MTAdam` or `AutoBalance` built with the names
    of the losses as ``optimizers=(optimizer, None)``, and call ``train()`` alone. The losses are
    the entries of the model's output (or of its ``loss_dict``) that are named as the balancer's, or
    the optimizer's; override `losses` where they lie elsewhere. The logged ``loss`` is their plain
    sum; beside it stands what `Record.report` tells. Checkpoints hold the balancer, and
    ``train(resume_from_checkpoint=...)`` resumes it.

    With ``gradient_accumulation_steps`` the weights are learned from the first micro-batch of each
    step and hold for the others; each loss is taken as a mean over its micro-batch.

    Raises:
        ModuleNotFoundError: On import, if Transformers is not installed.
    """

    balancer: Balancer
    loss_is_scaled_for_ga = False

    def balance(self, balancer: Balancer) -> None:
        """Sets the balancer.

        Args:
            balancer: Its names choose the losses.
        """
        self.balancer = balancer
        self._first = True
        self.add_callback(_Saving(balancer))

    @property
    def _balances(self) -> bool:
        return hasattr(self, "balancer")

    def losses(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses in what the model returned.

        Args:
            outputs: A ``ModelOutput`` or a dictionary.

        Returns:
            The losses that are there, by name.
        """
        inner = outputs.get("loss_dict")
        held = inner if isinstance(inner, Mapping) else outputs
        return {name: held[name] for name in self._names() if held.get(name) is not None}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 (as in Trainer)
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The hook that `Trainer` calls for each batch, in training and in evaluation.

        Args:
            model: The model.
            inputs: The batch.
            return_outputs: Whether the other outputs are wanted.
            num_items_in_batch: Unused: each loss is a mean.

        Returns:
            The loss, and the outputs that are no losses.

        Raises:
            RuntimeError: If there is neither a balancer nor a multi-term optimizer.
        """
        outputs = model(**inputs)
        losses = self.losses(outputs)
        loss = self._to_go_backward(losses) if model.training else self._to_look_at(losses)
        others = {name: value for name, value in outputs.items() if name not in losses}
        return (loss, others) if return_outputs else loss

    def _to_go_backward(self, losses: dict[str, Tensor]) -> Tensor:
        """The loss that `Trainer` calls ``backward`` on."""
        if not self._balances:
            last, scaler = self.accelerator.sync_gradients, self.accelerator.scaler
            return multi_term_loss(self._multi_term(), losses, last=last, scaler=scaler)
        with nullcontext() if self._first else self.balancer.frozen():
            loss = balanced_loss(self.balancer, losses)
        self._first = self.accelerator.sync_gradients
        return loss

    def _to_look_at(self, losses: dict[str, Tensor]) -> Tensor:
        return plain_sum(self.balancer, losses) if self._balances else sum_of(losses)

    def _multi_term(self) -> MultiTermOptimizer[Any]:
        try:
            return behind(self.optimizer)
        except TypeError:
            msg = (
                "No balancer is set; call `trainer.balance(balancer)` before `trainer.train()`, or "
                "pass `optimizers=(MTAdam(model.parameters(), losses=[...]), None)`."
            )
            raise RuntimeError(msg) from None

    def _names(self) -> tuple[str, ...]:
        names = self.balancer.names if self._balances else self._multi_term().names
        if names is None:
            msg = (
                "The optimizer does not know which of the model's outputs are losses; build it "
                "with their names, as `MTAdam(model.parameters(), losses=[...])`."
            )
            raise RuntimeError(msg)
        return names

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The hook through which all numbers go; adds the balancer's report to the loss.

        Args:
            logs: What is logged.
            start_time: When training began.
        """
        if "loss" in logs:
            source = self.balancer if self._balances else self._multi_term()
            logs = {**logs, **(source.report() if source.last is not None else {})}
        super().log(logs, start_time)

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,  # noqa: FBT001 (as in Trainer)
        trial: object = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Trains; resumes the balancer with everything else.

        Args:
            resume_from_checkpoint: A folder, or ``True`` for the last one.
            trial: See `Trainer`.
            ignore_keys_for_eval: See `Trainer`.

        Returns:
            What `Trainer.train` returns.
        """
        folder = resume_from_checkpoint
        if folder is True:
            folder = get_last_checkpoint(self.args.output_dir)
        if folder and self._balances:
            self._resume(Path(folder) / _FILE)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _resume(self, file: Path) -> None:
        if file.exists():
            self.balancer.load_state_dict(torch.load(file, weights_only=True))
        else:
            msg = f"{file} does not exist, so the balancer starts afresh."
            warnings.warn(msg, stacklevel=3)


class _Saving(TrainerCallback):
    """Writes the balancer beside what `Trainer` saved."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            torch.save(self.balancer.state_dict(), folder / _FILE)
