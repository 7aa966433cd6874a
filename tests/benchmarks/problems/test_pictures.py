from __future__ import annotations

import torch

from equipoise.benchmarks.problems.pictures import load_digits, load_photographs, rotate


def test_digits_and_photographs_lie_between_zero_and_one():
    images, labels = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert set(labels.tolist()) == set(range(10))
    for picture in (images, *load_photographs()):
        assert 0 <= picture.min() < picture.max() <= 1.001
    assert [tuple(picture.shape) for picture in load_photographs()] == [(427, 640)] * 2


def test_a_rotation_is_counter_clockwise_and_undone_by_its_opposite():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 7] = 1.0  # to the right of the middle
    quarter = rotate(image, torch.tensor([90.0]))
    assert quarter.argmax() == 1 * 9 + 4  # above it
    back = rotate(quarter, torch.tensor([-90.0]))
    torch.testing.assert_close(back, image, atol=1e-4, rtol=0)
