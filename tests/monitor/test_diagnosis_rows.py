"""What is kept of gradients: sums that stay in place, sketches that keep inner products."""

from __future__ import annotations

import pytest
import torch

from equipoise.monitor.diagnosis_rows import WIDTH, Layout, Sketch, Sums, cosines_of, gram_of


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_short_gradients_keep_their_inner_products_exactly():
    given = rows(3, 1000).double()
    sketched = Sketch()(given)
    assert sketched.shape == (3, 1000)
    torch.testing.assert_close(sketched @ sketched.T, given @ given.T)


@pytest.mark.parametrize("width", [WIDTH + 1, 3 * WIDTH, 20 * WIDTH + 17])
def test_long_gradients_keep_their_cosines_to_a_few_hundredths(width):
    given = rows(4, width)
    given[1] += given[0]
    sketched = Sketch()(given)
    assert sketched.shape == (4, WIDTH)
    difference = cosines_of(gram_of(sketched)) - cosines_of(gram_of(given))
    assert difference.abs().max() < 0.06


def test_gradients_that_repeat_with_the_width_keep_their_cosines_too():
    given = torch.zeros(2, 50 * WIDTH)
    given[0, ::WIDTH] = 1.0
    given[1, WIDTH // 2 :: WIDTH] = 1.0
    given[1, :: 2 * WIDTH] = 1.0
    sketched = Sketch()(given)
    difference = cosines_of(gram_of(sketched)) - cosines_of(gram_of(given))
    assert difference.abs().max() < 0.15  # fifty numbers: some collide


def test_every_sketch_has_the_same_signs_and_draws_from_no_global_generator():
    given, state = rows(2, 5 * WIDTH), torch.get_rng_state()
    assert torch.equal(Sketch()(given), Sketch()(given))
    assert torch.equal(torch.get_rng_state(), state)


def test_tensors_keep_their_columns():
    a, b, c = (torch.zeros(n) for n in (2, 3, 2))
    layout = Layout()
    first = rows(2, 5)
    assert layout.place([a, b], [2, 3], first) is first
    turned = layout.place([b, a], [3, 2], first[:, [2, 3, 4, 0, 1]])
    assert torch.equal(turned, first)
    alone = layout.place([c], [2], rows(1, 2))
    assert torch.equal(alone[:, :5], torch.zeros(1, 5))
    assert torch.equal(alone[:, 5:], rows(1, 2))
    assert torch.equal(layout.place([a, b], [2, 3], first)[:, 5:], torch.zeros(2, 2))


def test_shares_of_adams_update_are_those_of_divided_means():
    sums = Sums(2)
    batches = [rows(2, 3, seed=seed) for seed in range(4)]
    for batch in batches:
        sums.add([0, 1], batch)
    stacked = torch.stack(batches)
    deviation = stacked.sum(dim=1).square().mean(dim=0).sqrt()
    expected = (stacked.mean(dim=0) / deviation).norm(dim=1)
    assert sums.adam_norms() == pytest.approx(expected.tolist(), rel=1e-5)


def test_sums_grow_with_what_is_shared():
    sums = Sums(2)
    sums.add([0], torch.ones(1, 2))
    sums.add([0, 1], torch.ones(2, 3))
    assert sums.gradients.tolist() == [[2, 2, 1], [1, 1, 1]]
    assert sums.squares.tolist() == [5, 5, 4]
    assert sums.counts == [2, 1]


def test_products_of_tiny_gradients_do_not_vanish():
    assert gram_of(torch.full((1, 4), 1e-30))[0, 0] == pytest.approx(4e-60)


def test_a_zero_gradient_has_no_cosine():
    assert cosines_of(torch.tensor([[4.0, 0.0], [0.0, 0.0]])).isnan().tolist() == [
        [False, True],
        [True, True],
    ]
