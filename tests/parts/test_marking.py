from __future__ import annotations

import pytest
import torch

from equipoise.parts.marking import mark


def test_without_a_name_the_default_position_is_marked():
    assert torch.equal(mark(None, ("a", "b", "c"), "target"), torch.tensor([1.0, 0.0, 0.0]))
    last = mark(None, ("a", "b", "c"), "target", default=-1)
    assert torch.equal(last, torch.tensor([0.0, 0.0, 1.0]))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="`target` is 'x', which is no loss; write one of 'a', 'b'"
    ):
        mark("x", ("a", "b"), "target")
