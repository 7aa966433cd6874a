from __future__ import annotations

import pytest
import torch

from tests.golden import FOLDER, assert_matches, load, names, tensor

REFERENCE_BEHAVIOUR = sorted(path.stem for path in FOLDER.glob("reference_behaviour/*.json"))


@pytest.fixture(name="golden")
def a_golden():
    return load("mtadam__T2_default")


@pytest.mark.parametrize("name", names())
def test_every_golden_has_steps_and_tolerances_that_bind(name):
    golden = load(name)
    assert golden.steps
    assert 0 < golden.rtol < 0.01
    assert 0 <= golden.atol < 0.01


@pytest.mark.parametrize("name", REFERENCE_BEHAVIOUR)
def test_cases_that_bind_nobody_are_read_by_their_folder(name):
    assert load(f"reference_behaviour/{name}").steps
    assert name not in names()


def test_names_are_sorted_and_match_the_pattern():
    found = names("mtadam__*")
    assert found == sorted(found)
    assert "mtadam__amsgrad" in found
    assert all(name.startswith("mtadam__") for name in found)


def test_a_pattern_without_golden_is_an_error():
    with pytest.raises(ValueError, match="no golden matches 'no_such_method'"):
        names("no_such_method")


def test_a_difference_within_the_tolerances_passes(golden):
    assert_matches(golden, [1.0 + golden.rtol / 2], [1.0])


def test_a_difference_beyond_the_tolerances_fails_and_names_the_golden(golden):
    with pytest.raises(AssertionError, match="mtadam__T2_default step 3"):
        assert_matches(golden, [1.0 + 3 * golden.rtol], [1.0], "step 3")


def test_lower_precision_than_the_golden_fails(golden):
    with pytest.raises(AssertionError, match="dtype"):
        assert_matches(golden, torch.ones(2), [1.0, 1.0])


def test_another_shape_fails(golden):
    with pytest.raises(AssertionError, match="shape"):
        assert_matches(golden, tensor([[1.0]]), [1.0])


def test_tensors_of_different_shapes_are_held_one_by_one(golden):
    expected = [[1.0, 2.0], [3.0]]
    assert_matches(golden, [tensor([1.0, 2.0]), tensor([3.0])], expected)
    with pytest.raises(AssertionError, match=r"\[1\]"):
        assert_matches(golden, [tensor([1.0, 2.0]), tensor([4.0])], expected)


def test_a_missing_tensor_fails(golden):
    with pytest.raises(ValueError, match="argument 2 is longer"):
        assert_matches(golden, [tensor([1.0])], [[1.0], [2.0]])
