from __future__ import annotations

import warnings

import pytest
import torch
import torch._functorch.config
from torch import Tensor

from equipoise.autograd.compiled import KeptForPasses
from tests.models import MultiHead, batch, compile_trunk, fresh_compiler

MESSAGE = r"can go backward but once.*_functorch.config.donated_buffer = False"


@pytest.fixture(autouse=True)
def _fresh_compiler():
    with fresh_compiler():
        yield


def losses_of(model: MultiHead) -> list[Tensor]:
    return model(batch())


def test_an_eager_graph_need_not_be_kept() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not KeptForPasses().needed(losses_of(MultiHead(2)))


@pytest.mark.filterwarnings("always:The gradients of several losses:UserWarning")
def test_a_compiled_one_is_kept_in_every_step_and_warned_of_in_the_first() -> None:
    model = MultiHead(2)
    compile_trunk(model)
    keeping = KeptForPasses()
    with pytest.warns(UserWarning, match=MESSAGE):
        assert keeping.needed(losses_of(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keeping.needed(losses_of(model))


def test_no_warning_where_pytorch_was_told() -> None:
    model = MultiHead(2)
    with torch._functorch.config.patch(donated_buffer=False), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        compile_trunk(model)
        assert KeptForPasses().needed(losses_of(model))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
def test_what_torchscript_made_gives_nothing_away_and_is_kept_without_a_warning() -> None:
    model = MultiHead(2)
    model.trunk = torch.jit.trace(model.trunk, batch())
    losses = [losses_of(model) for _ in range(3)][-1]  # it becomes one node by and by
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KeptForPasses().needed(losses)
