from __future__ import annotations

import pytest
import torch

import equipoise as eq
from equipoise.losses import loss_names, per_loss, read_losses
from tests.methods import NAMES, make
from tests.models import MultiHead, batch, flat_grad


def live(value: float) -> torch.Tensor:
    return torch.tensor(value, requires_grad=True) * 1


def test_a_count_names_the_losses_by_position() -> None:
    assert loss_names(3) == ("0", "1", "2")


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (["a", "a"], ValueError, "'a' comes twice"),
        ([], ValueError, "At least one loss"),
        (0, ValueError, "At least one loss"),
        ("a", TypeError, r"\['a'\]"),
        ([1, 2], TypeError, "a string, such as '1'"),
        (2.5, TypeError, "count or names"),
        (True, TypeError, "count or names"),
    ],
)
def test_names_that_cannot_be_are_refused_with_what_to_write(given, error, says) -> None:
    with pytest.raises(error, match=says):
        loss_names(given)


def test_a_mapping_is_read_by_name_whatever_its_order() -> None:
    a, b = live(1.0), live(2.0)
    terms = read_losses({"b": b, "a": a}, ("a", "b"))
    assert terms.tensors[0] is a
    assert terms.tensors[1] is b
    assert terms.complete


@pytest.mark.parametrize("absent", [{"a": None}, {}])
def test_a_name_left_out_or_none_is_absent(absent) -> None:
    terms = read_losses({**absent, "b": live(2.0)}, ("a", "b"))
    assert terms.present == (1,)
    assert terms.present_names == ("b",)
    assert not terms.complete


def test_a_tensor_of_losses_is_read_in_order() -> None:
    parameter = torch.tensor([1.0, 2.0], requires_grad=True)
    terms = read_losses(parameter * 3, ("a", "b"))
    assert terms.values().tolist() == [3.0, 6.0]


def test_one_element_tensors_count_as_scalars() -> None:
    terms = read_losses([live(1.0).reshape(1, 1)], ("a",))
    assert terms.tensors[0].shape == ()


def test_half_precision_values_are_read_in_single_precision() -> None:
    terms = read_losses([live(1.0).half(), live(2.0).bfloat16()], ("a", "b"))
    assert terms.values().dtype == torch.float32


def test_without_gradients_a_loss_needs_no_graph() -> None:
    with torch.no_grad():
        assert read_losses([torch.tensor(1.0)], ("a",)).present == (0,)


@pytest.mark.parametrize(
    ("losses", "error", "says"),
    [
        ({"c": live(1.0)}, ValueError, "unknown name 'c'; the known names are 'a', 'b'"),
        ([live(1.0)], ValueError, "Got 1 losses for the 2 names 'a', 'b'"),
        ([live(1.0), 2.0], TypeError, "Loss 'b' is a float"),
        ([live(1.0), torch.tensor(1)], TypeError, "Loss 'b' has dtype torch.int64"),
        ([live(1.0), live(1.0).expand(3)], ValueError, r"Loss 'b' is not a scalar: .*\(3,\).*mean"),
        ([live(1.0), torch.tensor(1.0)], ValueError, "Loss 'b' has no graph"),
        ({}, ValueError, "No loss is there; give at least one of 'a', 'b'"),
        (torch.zeros(2, 2, requires_grad=True), ValueError, r"shape \[T\]; got \(2, 2\)"),
        ("ab", TypeError, "mapping by name, a sequence"),
        (live(1.0), ValueError, "is one number; pass the losses themselves"),
        (1.0, TypeError, "is one number; pass the losses themselves"),
        (
            [live(1.0), torch.ones((), device="meta", requires_grad=True)],
            ValueError,
            "Loss 'b' is on meta, loss 'a' on cpu; move it",
        ),
    ],
)
def test_bad_losses_are_refused_by_name_with_what_to_do(losses, error, says) -> None:
    with pytest.raises(error, match=says):
        read_losses(losses, ("a", "b"))


def test_the_balanced_loss_has_the_weighted_gradient() -> None:
    parameter = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    terms = read_losses(parameter**2, ("a", "b"))
    terms.balanced(torch.tensor([0.5, 3.0], dtype=torch.float64)).backward()
    assert parameter.grad.tolist() == [1.0, 12.0]


def test_numbers_a_loss_come_by_name_in_order_or_once_for_all() -> None:
    names = ("a", "b")
    assert per_loss({"b": 2.0}, names, "x", default=1.0).tolist() == [1.0, 2.0]
    assert per_loss([3, 4], names, "x").tolist() == [3.0, 4.0]
    assert per_loss(5.0, names, "x").tolist() == [5.0, 5.0]


@pytest.mark.parametrize("given", [{"a": "1e-3", "b": 1.0}, "ab", ["1", "2"], None])
def test_text_in_the_place_of_numbers_a_loss_is_refused_by_name(given) -> None:
    with pytest.raises((TypeError, ValueError), match=r"`x` is .*; give numbers"):
        per_loss(given, ("a", "b"), "x")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"c": 1.0}, "unknown name 'c'"),
        ({"a": 1.0}, "`x` lacks 'b'"),
        ([1.0], "needs 2 numbers"),
        ([1.0, float("nan")], "of loss 'b' is nan"),
        ([1.0, float("inf")], "of loss 'b' is inf"),
        (torch.ones(2, requires_grad=True), "`x` requires grad"),
        ([torch.nn.Parameter(torch.ones(())), 1.0], "`x` requires grad"),
        ({"a": 1.0, "b": torch.nn.Parameter(torch.ones(()))}, "`x` requires grad"),
    ],
)
def test_wrong_numbers_a_loss_are_refused_by_name(given, says) -> None:
    with pytest.raises(ValueError, match=says):
        per_loss(given, ("a", "b"), "x")


ABSENT = {
    "a number": lambda: 0.5,
    "an integer": lambda: 0,
    "a constant": lambda: torch.tensor(0.5),
    "a constant of integers": lambda: torch.tensor(0),
    "a loss that was detached": lambda: live(0.5).detach(),
    "a constant of one element": lambda: torch.tensor([0.5]),
}


@pytest.mark.parametrize("absent", ABSENT)
def test_a_loss_without_a_graph_is_absent_and_its_value_is_kept(absent) -> None:
    given = ABSENT[absent]()
    terms = read_losses([live(1.0), given], ("a", "b"), graphless="absent")
    assert terms.present == (0,)
    ((position, value),) = terms.constants
    assert position == 1
    assert value.item() == float(given)


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_takes_a_loss_without_a_graph_for_absent(name, absent) -> None:
    model, x = MultiHead(3), batch()
    torch.manual_seed(0)
    one = make(name)
    torch.manual_seed(0)
    other = make(name)
    given = ABSENT[absent]()
    losses = model(x)
    with pytest.warns(UserWarning, match="Loss 'b' has no graph in this step"):
        record = one.backward([losses[0], given, losses[2]])
    found = flat_grad(list(model.parameters()))
    model.zero_grad()
    losses = model(x)
    expected = other.backward({"a": losses[0], "c": losses[2]})
    torch.testing.assert_close(found, flat_grad(list(model.parameters())), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(record.weights, expected.weights)
    assert record.losses[1] == float(given)
    assert record.weights[1] == 0
    assert record.total == expected.total + float(given)


def test_the_warning_comes_once_for_each_loss_and_not_where_absence_is_said() -> None:
    balancer, model = eq.Equal(["a", "b", "c"]), MultiHead(3)

    def train() -> None:
        for _ in range(3):
            a, b, c = model(batch())
            balancer.backward({"a": a, "b": 0.0, "c": c}, retain_graph=True)
            balancer.backward({"a": a.detach(), "b": b, "c": None})

    with pytest.warns(UserWarning, match="graphless='raise'") as told:
        train()
    assert [str(one.message)[:9] for one in told] == ["Loss 'b' ", "Loss 'a' "]


def test_a_loss_without_a_graph_can_be_made_an_error() -> None:
    balancer, model = eq.Equal(["a", "b", "c"], graphless="raise"), MultiHead(3)
    with pytest.raises(TypeError, match="Loss 'b' is a float"):
        balancer.backward([model(batch())[0], 0.0, model(batch())[2]])
    with pytest.raises(ValueError, match="Loss 'b' has no graph"):
        balancer.backward([model(batch())[0], torch.tensor(0.0), model(batch())[2]])
    with pytest.raises(ValueError, match="graphless"):
        eq.Equal(2, graphless="skip")


@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_which_no_loss_has_a_graph_is_refused(name) -> None:
    balancer, model = make(name), MultiHead(3)
    with pytest.raises(ValueError, match=r"No loss has a graph \('a', 'b', 'c'\)"):
        balancer.backward([0.0, torch.tensor(1.0), model(batch())[0].detach()])
    with torch.no_grad(), pytest.raises(ValueError, match=r"computed under `torch.no_grad\(\)`"):
        balancer.backward(model(batch()))


def test_under_no_grad_values_alone_are_balanced() -> None:
    with torch.no_grad():
        assert eq.Equal(3)([0.5, torch.tensor(1.0), 2]).item() == 3.5
