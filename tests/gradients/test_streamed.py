from __future__ import annotations

import pytest
import torch

from equipoise.gradients.gradients import Gradients
from equipoise.gradients.measuring import Measuring
from equipoise.gradients.passes import Passes
from equipoise.gradients.streamed import StreamedGradients
from tests.models import MultiHead, batch, jacobian


def passes_of(losses, parameters, **options) -> Passes:
    return Passes(losses, parameters, **options)


def test_streamed_gradients_go_through_a_formula_like_stacked_ones() -> None:
    model = MultiHead(3)
    losses, parameters = model(batch()), list(model.parameters())
    streamed = StreamedGradients(passes_of(losses, parameters), [p.numel() for p in parameters])
    found = streamed.entrywise(lambda g: g.amax(0))
    torch.testing.assert_close(found, jacobian(losses, parameters).amax(0))


@pytest.mark.parametrize("rows", [2, 3, 4, 6, None])
def test_streamed_gradients_equal_the_stacked_ones_within_any_budget(rows) -> None:
    model = MultiHead(5)
    losses, parameters = model(batch()), list(model.parameters())
    expected = Gradients(jacobian(losses, parameters))
    streamed = StreamedGradients(
        passes_of(losses, parameters), [p.numel() for p in parameters], rows
    )
    torch.testing.assert_close(streamed.norms(), expected.norms())
    torch.testing.assert_close(streamed.gram(), expected.gram())
    torch.testing.assert_close(streamed.matrix(), expected.matrix())


@pytest.mark.parametrize(
    ("rows", "passes"), [(None, 5), (5, 5), (4, 5 + 2 + 1), (3, 5 + 3 + 1 + 1), (2, 16)]
)
def test_the_price_is_stated_and_kept(rows, passes) -> None:
    model = MultiHead(5)
    losses, parameters = model(batch()), list(model.parameters())
    assert Measuring(rows=rows).passes(5, norms_only=False) == passes
    kept = rows == 5
    assert Measuring(rows=rows).passes(5, norms_only=True, nbytes=1 << 22) == (5 if kept else 6)
    if rows is not None and rows < 5:
        counted = CountedPasses(losses, parameters)
        StreamedGradients(counted, [p.numel() for p in parameters], rows).gram()
        assert counted.count + 1 == passes


class CountedPasses(Passes):
    count = 0

    def row(self, i, *, last=False):
        self.count += 1
        return super().row(i, last=last)


def test_what_was_measured_is_known_without_a_pass() -> None:
    model = MultiHead(3)
    counted = CountedPasses(model(batch()), list(model.parameters()))
    streamed = StreamedGradients(counted, [p.numel() for p in model.parameters()])
    assert streamed.known() == (None, None)
    streamed.norms()
    norms, cosines = streamed.known()
    assert norms is not None
    assert cosines is None
    assert counted.count == 3
