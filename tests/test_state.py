from __future__ import annotations

import copy

import pytest
import torch

from equipoise.state import Stateful


class Example(Stateful):
    def __init__(self, names=("a", "b", "c")) -> None:
        super().__init__(names)
        self.state("one", torch.zeros(3))
        self.state("square", torch.zeros(3, 3), axes=2)
        self.state("steps", torch.zeros(()), axes=0)
        self.state("wide", torch.zeros(3, 0))


def test_only_present_losses_are_seen_and_the_others_rest() -> None:
    example = Example()
    example.one.copy_(torch.tensor([1.0, 2.0, 3.0]))
    example.square.copy_(torch.arange(9.0).reshape(3, 3))
    with example.among((0, 2)):
        assert example.one.tolist() == [1.0, 3.0]
        assert example.square.tolist() == [[0.0, 2.0], [6.0, 8.0]]
        example.one = example.one * 10
        example.square.zero_()
        example.steps += 1
    assert example.one.tolist() == [10.0, 2.0, 30.0]
    assert example.square.tolist() == [[0.0, 1.0, 0.0], [3.0, 4.0, 5.0], [0.0, 7.0, 0.0]]
    assert example.steps == 1


def test_state_inside_other_state_is_narrowed_too() -> None:
    outer = Example()
    outer.inner = Example()
    with outer.among((1,)):
        outer.inner.one.fill_(5.0)
    assert outer.inner.one.tolist() == [0.0, 5.0, 0.0]


def test_wide_state_takes_its_width_at_the_first_step_with_zeros_for_absent_losses() -> None:
    example = Example()
    with example.among((0, 2)):
        example.wide = torch.ones(2, 4)
    assert example.wide.tolist() == [[1.0] * 4, [0.0] * 4, [1.0] * 4]


def test_state_follows_device_and_precision_upwards_only() -> None:
    example = Example()
    example.follow(torch.zeros(3, dtype=torch.float64))
    assert example.one.dtype == torch.float64
    followed = example.follow(torch.zeros(3, dtype=torch.float32))
    assert example.one.dtype == followed.dtype == torch.float64


def test_loading_adopts_precision_and_width_bit_for_bit() -> None:
    trained = Example().double()
    trained.one.copy_(torch.rand(3, dtype=torch.float64))
    trained.wide = torch.rand(3, 7, dtype=torch.float64)
    trained._calls = 5
    fresh = Example()
    fresh.load_state_dict(copy.deepcopy(trained.state_dict()))
    assert torch.equal(fresh.one, trained.one)
    assert torch.equal(fresh.wide, trained.wide)
    assert fresh._calls == 5


def test_changes_can_be_taken_back() -> None:
    example = Example()
    with example.untouched():
        example.one.fill_(3.0)
        example.steps = torch.ones(())
        example.wide = torch.ones(3, 2)
    assert example.one.tolist() == [0.0] * 3
    assert example.steps == 0
    assert example.wide.shape == (3, 0)


def test_numbers_given_in_double_precision_are_exact_for_losses_in_double_precision() -> None:
    example = Example()
    example.state("given", torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    example.state("changed", torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    assert example.given.dtype == torch.float32
    example.changed += 1
    example.follow(torch.zeros(3, dtype=torch.float64))
    assert example.given.tolist() == [0.1, 0.2, 0.3]
    assert example.changed[0] == torch.tensor(0.1) + 1


def trained(names: tuple[str, ...]) -> Example:
    example = Example(names)
    example.one.copy_(torch.tensor([1.0, 2.0, 3.0]))
    example.square.copy_(torch.arange(9.0).reshape(3, 3))
    example.wide = torch.arange(6.0).reshape(3, 2)
    return example


def test_a_checkpoint_with_other_losses_loads_by_name_with_a_warning_that_names_them() -> None:
    fresh = Example(("c", "new", "a"))
    with pytest.warns(UserWarning, match="'new' is new and starts afresh; 'b' is gone"):
        fresh.load_state_dict(trained(("a", "b", "c")).state_dict())
    assert fresh.one.tolist() == [3.0, 0.0, 1.0]
    assert fresh.square.tolist() == [[8.0, 0.0, 6.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]
    assert fresh.wide.tolist() == [[4.0, 5.0], [0.0, 0.0], [0.0, 1.0]]


def test_a_checkpoint_with_the_same_losses_in_another_order_loads_by_name_silently() -> None:
    saved = trained(("a", "b", "c")).state_dict()
    fresh = Example(("b", "c", "a"))
    fresh.load_state_dict(saved)
    assert fresh.one.tolist() == [2.0, 3.0, 1.0]
    assert saved["one"].tolist() == [1.0, 2.0, 3.0]
