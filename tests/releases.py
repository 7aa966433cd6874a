"""What not every supported release of torch can do, each with the mark of a test that needs it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

_saved = nn.Linear(2, 2)(torch.ones(1, 2)).grad_fn._raw_saved_mat1

tells_what_it_saved = pytest.mark.skipif(
    not hasattr(_saved, "unpack_hook"),
    reason="this torch does not tell what it saved from what it will compute again",
)
has_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon since 2.9")
shards_on_a_cpu = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"),
    reason="`fully_shard` of this torch works on GPUs only",
)
rounds_bfloat16_as_today = pytest.mark.xfail(
    tuple(map(int, torch.__version__.partition("+")[0].split(".")[:2])) < (2, 13),
    reason="a gradient near zero is rounded to the other sign, by which a first step goes",
    strict=False,
)
