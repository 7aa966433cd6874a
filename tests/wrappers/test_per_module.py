from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.gradients.gradients import Gradients
from equipoise.registry import capabilities
from equipoise.wrappers import PerModule
from tests.methods import LOSSES, make, of_kind
from tests.models import MultiHead, batch, flat_grad, jacobian

FIT = [
    name
    for name in of_kind(weighting=True)
    if make(name).looks_at != "losses" and name not in ("modo", "sdmgrad")
]


def parts_of(model: MultiHead) -> dict[str, nn.Module]:
    return {"first": model.trunk[0], "second": model.trunk[2]}


def named(losses: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(zip(LOSSES, losses, strict=True))


@pytest.mark.parametrize("name", FIT)
def test_each_part_is_balanced_as_by_a_balancer_of_its_own(name) -> None:
    torch.manual_seed(0)
    model = MultiHead(3)
    method = make(name, priorities={"b": 2.0})
    separate = {part: copy.deepcopy(method) for part in parts_of(model)}
    balancer = PerModule(method, parts_of(model))
    priorities = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(4):
        losses = model(batch())
        expected = {}
        for part, module in parts_of(model).items():
            rows = jacobian(losses, list(module.parameters())) * priorities[:, None]
            sizes = [p.numel() for p in module.parameters()]
            values = torch.stack(losses).detach() * priorities
            expected[part] = separate[part].combine(values, Gradients(rows, sizes))
        optimizer.zero_grad()
        balancer.backward(named(losses))
        for part, module in parts_of(model).items():
            found = flat_grad(list(module.parameters()))
            torch.testing.assert_close(found, expected[part], rtol=1e-9, atol=1e-12)
        optimizer.step()


@pytest.mark.parametrize("name", ["mgda", "upgrad", "inversegradientnorm", "excessmtl"])
def test_one_part_of_all_that_is_shared_is_the_method_itself(name) -> None:
    found = []
    for wrap in (lambda _: make(name, heads="plain"),
                 lambda model: PerModule(make(name), {"trunk": model.trunk}),
                 lambda model: PerModule(make(name), {"heads": model.heads})):  # fmt: skip
        torch.manual_seed(0)
        model = MultiHead(3)
        wrap(model).backward(named(model(batch())))
        found.append(flat_grad(list(model.parameters())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[2], found[0], rtol=1e-9, atol=1e-12)


def test_heads_get_their_plain_gradient_and_the_record_the_priorities() -> None:
    model = MultiHead(3)
    balancer = PerModule(eq.MGDA(LOSSES, priorities={"c": 3.0}), parts_of(model))
    losses = model(batch())
    head = list(model.heads[2].parameters())
    expected = torch.autograd.grad(losses[2], head, retain_graph=True)
    record = balancer.backward(named(losses))
    torch.testing.assert_close(head[0].grad, 3 * expected[0])
    assert record.weights.tolist() == [1.0, 1.0, 3.0]
    assert record.norms is None


class Branches(nn.Module):
    """All losses reach the first layer, two of three the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.second = nn.Linear(5, 5)
        self.double()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        early = self.first(x).tanh()
        late = self.second(early).tanh()
        return [late.square().mean(), (late - 1).square().mean(), (early + 2).square().mean()]


def test_a_loss_that_does_not_reach_a_part_is_absent_to_its_balancer() -> None:
    model = Branches()
    balancer = PerModule(eq.MGDA(LOSSES), {"first": model.first, "second": model.second})
    losses = model(batch())
    rows = jacobian(losses[:2], list(model.second.parameters()))
    expected = eq.MGDA(2).combine(torch.ones(2).double(), Gradients(rows))
    balancer.backward(named(losses))
    torch.testing.assert_close(flat_grad(list(model.second.parameters())), expected)
    weights = balancer.part_weights["second"]
    assert weights["a"] + weights["b"] == pytest.approx(1.0)


def test_a_loss_absent_from_a_step_rests_in_every_part() -> None:
    model = MultiHead(3)
    balancer = PerModule(eq.InverseGradientNorm(LOSSES), parts_of(model))
    balancer.backward(named(model(batch())))
    before = copy.deepcopy(balancer.part_weights)
    losses = named(model(batch()))
    del losses["b"]
    balancer.backward(losses)
    for part in parts_of(model):
        assert balancer.part_weights[part]["b"] == before[part]["b"]
        assert balancer.part_weights[part]["a"] != before[part]["a"]


def test_with_one_loss_left_it_gets_its_plain_gradient() -> None:
    model = MultiHead(3)
    loss = model(batch())[1]
    parameters = list(model.trunk.parameters())
    expected = torch.autograd.grad(loss, parameters, retain_graph=True)
    PerModule(eq.MGDA(LOSSES), parts_of(model)).backward({"b": loss})
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_one_backward_pass_for_each_loss_is_all() -> None:
    model, passes = MultiHead(3), []
    balancer = PerModule(eq.UPGrad(LOSSES), parts_of(model))
    losses = model(batch())
    handle = model.trunk[0].weight.register_hook(lambda _: passes.append(1))
    balancer.backward(named(losses))
    handle.remove()
    assert len(passes) == 4  # one for each loss, and one of the gradients found into `.grad`


def test_its_price_is_that_of_all_gradients_wherever_the_method_looks() -> None:
    known = capabilities(PerModule(eq.GradNorm(3), {"trunk": MultiHead(3).trunk}))
    assert (known.looks_at, known.weighting, known.watches) == ("gradients", False, "shared")
    assert known.passes(losses=3) == 3


def test_frozen_it_uses_the_weights_of_each_part_as_they_are() -> None:
    model = MultiHead(3)
    balancer = PerModule(eq.InverseGradientNorm(LOSSES), parts_of(model))
    balancer.backward(named(model(batch())))
    weights = copy.deepcopy(balancer.part_weights)
    model.zero_grad()
    losses = model(batch())
    rows = jacobian(losses, list(model.trunk[2].parameters()))
    with balancer.frozen():
        balancer.backward(named(losses))
    assert balancer.part_weights == weights
    expected = torch.tensor(list(weights["second"].values()), dtype=torch.float64) @ rows
    torch.testing.assert_close(flat_grad(list(model.trunk[2].parameters())), expected)


def test_saved_and_loaded_each_part_goes_on_bit_for_bit() -> None:
    def trained(model, balancer, steps):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for seed in steps:
            torch.manual_seed(seed)
            optimizer.zero_grad()
            balancer.backward(named(model(batch())))
            optimizer.step()

    def built(seed):
        torch.manual_seed(seed)
        model = MultiHead(3)
        return model, PerModule(eq.GradVac(LOSSES), parts_of(model))

    straight = built(0)
    trained(*straight, range(6))
    first, second = built(0), built(1)
    trained(*first, range(3))
    for one, other in zip(first, second, strict=True):
        other.load_state_dict(one.state_dict())
    trained(*second, range(3, 6))
    for p, q in zip(straight[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.filterwarnings("error")
def test_a_method_whose_copies_learn_is_not_told_to_be_idle() -> None:
    model = MultiHead(3)
    balancer = PerModule(eq.MGDA(LOSSES), {"trunk": model.trunk})
    for _ in range(101):
        balancer.backward(named(model(batch())))


def test_an_overflow_leaves_the_state_of_every_part_as_it_was() -> None:
    model = MultiHead(3)
    balancer = PerModule(eq.InverseGradientNorm(LOSSES), parts_of(model))
    balancer.backward(named(model(batch())))
    before = copy.deepcopy(balancer.part_weights)
    losses = model(batch())
    losses[1].register_hook(lambda gradient: gradient * torch.inf)
    balancer.backward(named(losses))
    assert balancer.part_weights == before
    assert not flat_grad(list(model.trunk.parameters())).isfinite().all()
    balancer.backward(named(model(batch())))
    assert balancer.part_weights != before


def test_a_callable_in_place_of_backward_is_given_the_same_gradients() -> None:
    found = []
    for options in ({}, {"backward": lambda loss: loss.backward()}):
        torch.manual_seed(0)
        model = MultiHead(3)
        PerModule(eq.UPGrad(LOSSES), parts_of(model)).backward(named(model(batch())), **options)
        found.append(flat_grad(list(model.parameters())))
    torch.testing.assert_close(found[1], found[0])


def test_wrappers_go_below_it_and_on_top() -> None:
    model = MultiHead(3)
    below = PerModule(eq.Primary(eq.MGDA(LOSSES), "b"), parts_of(model))
    losses = model(batch())
    gradient = jacobian(losses, list(model.trunk[0].parameters()))[1]
    below.backward(named(losses))
    assert flat_grad(list(model.trunk[0].parameters())) @ gradient >= -1e-12
    model.zero_grad()
    losses = model(batch())
    gradient = jacobian(losses, list(model.parameters()))[1]
    eq.Primary(PerModule(eq.MGDA(LOSSES), parts_of(model)), "b").backward(named(losses))
    assert flat_grad(list(model.parameters())) @ gradient >= -1e-12


def test_a_tensor_of_the_graph_is_no_place_to_tell_parts() -> None:
    model = MultiHead(3)
    with pytest.raises(TypeError, match="told by their parameters"):
        PerModule(eq.MGDA(LOSSES), parts_of(model)).backward(
            named(model(batch())), wrt="representation"
        )


def test_outside_a_graph_parts_are_told_by_the_order_of_their_tensors() -> None:
    model = MultiHead(3)
    losses = model(batch())
    parameters = list(model.trunk.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    given = Gradients(jacobian(losses, parameters), sizes)
    balancer = PerModule(eq.MGDA(LOSSES), parts_of(model))
    combined = balancer.combine(torch.stack(losses).detach(), given)
    balancer.backward(named(losses))
    torch.testing.assert_close(flat_grad(parameters), combined)


def test_it_has_no_balanced_loss_and_takes_no_gradients_of_other_tensors() -> None:
    model = MultiHead(3)
    balancer = PerModule(eq.MGDA(LOSSES), parts_of(model))
    with pytest.raises(TypeError, match=r"PerModule\(MGDA\).*call `backward"):
        balancer(named(model(batch())))
    with pytest.raises(TypeError, match="sizes of 1 tensors, and the parts have 4"):
        balancer.combine(torch.ones(3), Gradients(torch.eye(3)))


LAYER = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("balancer", "parts", "error", "message"),
    [
        (eq.Equal(2), {"a": LAYER}, TypeError, "Equal looks at loss values only"),
        (eq.TrimmedMean(3), {"a": LAYER}, TypeError, "TrimmedMean gives a combined gradient"),
        (eq.MoDo(2), {"a": LAYER}, TypeError, "MoDo .* further mini-batches"),
        (eq.MGDA(2, every=3), {"a": LAYER}, ValueError, "`every` of MGDA is 3"),
        (LAYER, {"a": LAYER}, TypeError, "goes on top of a balancer"),
        (eq.MGDA(2), {}, ValueError, "`parts` names no part"),
        (eq.MGDA(2), {"rest": LAYER}, ValueError, "'rest', which is taken"),
        (eq.MGDA(2), {"a": LAYER, "b": [LAYER.bias]}, ValueError, "in the parts 'a' and 'b'"),
        (eq.MGDA(2), {"a": 3.0}, TypeError, "names no tensor"),
    ],
)
def test_what_cannot_be_is_refused(balancer, parts, error, message) -> None:
    with pytest.raises(error, match=message):
        PerModule(balancer, parts)
