"""Transformers with MTAdam: one encoder, two tasks, no weights to tune.

pip install "equipoise[transformers]"
python examples/mtadam_transformers.py
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, TrainingArguments
from transformers.utils import ModelOutput

import equipoise as eq
from equipoise.integrations.transformers import BalancedTrainer

WORDS, LENGTH = 20, 12


class TwoTasks(nn.Module):
    """Whether a sentence holds word 0, and whether each word repeats the one before."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=WORDS,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=LENGTH,
        )
        self.encoder = BertModel(config)
        self.sentence = nn.Linear(32, 2)
        self.word = nn.Linear(32, 2)

    def forward(self, input_ids: Tensor, holds: Tensor, repeats: Tensor) -> ModelOutput:
        hidden = self.encoder(input_ids=input_ids)
        return ModelOutput(
            sentence=F.cross_entropy(self.sentence(hidden.pooler_output), holds),
            word=F.cross_entropy(
                self.word(hidden.last_hidden_state).flatten(0, 1), repeats.view(-1)
            ),
        )


def sentences(count: int) -> list[dict[str, Tensor]]:
    words = torch.randint(WORDS, (count, LENGTH))
    stays = torch.rand(count, LENGTH) < 0.3
    for i in range(1, LENGTH):
        words[:, i] = torch.where(stays[:, i], words[:, i - 1], words[:, i])
    repeats = F.pad((words[:, 1:] == words[:, :-1]).long(), (1, 0))
    holds = (words == 0).any(dim=1).long()
    columns = zip(words, holds, repeats, strict=True)
    return [{"input_ids": w, "holds": h, "repeats": r} for w, h, r in columns]


def main() -> None:
    torch.manual_seed(0)
    model = TwoTasks()
    optimizer = eq.MTAdam(model.parameters(), lr=2e-3, losses=["sentence", "word"])
    with TemporaryDirectory() as folder:
        trainer = BalancedTrainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                use_cpu=True,
                max_steps=60,
                per_device_train_batch_size=32,
                logging_steps=20,
                report_to=[],
                disable_tqdm=True,
                save_strategy="no",
                dataloader_pin_memory=False,
            ),
            train_dataset=sentences(1000),
            optimizers=(optimizer, None),
        )
        trainer.train()


if __name__ == "__main__":
    main()
