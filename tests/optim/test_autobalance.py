from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.optim import AutoBalance, MTAdam
from tests.optim.training import TwoHeads, assert_equal_models, batches, train

ANYWHERE = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])


class SeparateOptimizers:
    """A real AdamW for each loss, each on its own copy of the parameters."""

    def __init__(self, values, count, **options):
        self.values = [value.clone() for value in values]
        self.copies = [[v.clone().requires_grad_() for v in values] for _ in range(count)]
        self.optimizers = [torch.optim.AdamW(copy, **options) for copy in self.copies]

    @torch.no_grad()
    def step(self, gradients):
        """Gradients by loss, one a parameter; None where a loss does not reach one."""
        reached = [any(g[j] is not None for g in gradients.values()) for j in self._places]
        updates = [torch.zeros_like(value) for value in self.values]
        for i, of_loss in gradients.items():
            for copy, value, g, here in zip(
                self.copies[i], self.values, of_loss, reached, strict=True
            ):
                copy.copy_(value)
                copy.grad = (torch.zeros_like(value) if g is None else g) if here else None
            self.optimizers[i].step()
            for j in self._places:
                updates[j] += self.copies[i][j] - self.values[j]
        self.values = [v + update for v, update in zip(self.values, updates, strict=True)]

    @property
    def _places(self):
        return range(len(self.values))


@given(data=st.data())
def test_any_trajectory_is_the_sum_of_separate_adamw_updates(data):
    count = data.draw(st.integers(1, 4), "losses")
    shapes = data.draw(
        st.lists(st.sampled_from([(3,), (2, 2), (), (1, 5)]), min_size=1, max_size=4)
    )
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16), "seed"))
    options = {
        "lr": data.draw(st.sampled_from([1e-3, 0.1])),
        "weight_decay": data.draw(st.sampled_from([0.0, 0.1])),
        "betas": data.draw(st.sampled_from([(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])),
        "eps": data.draw(st.sampled_from([1e-8, 1e-3])),
    }
    path = {"foreach": data.draw(st.booleans()), "on_device": data.draw(st.booleans())}

    def random(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    values = [random(shape) for shape in shapes]
    parameters = [value.clone().requires_grad_() for value in values]
    slow = SeparateOptimizers(values, count, **options)
    optimizer = AutoBalance(parameters, losses=count, **options, **path)
    for _ in range(6):
        present = data.draw(st.sets(st.integers(0, count - 1), min_size=1), "present")
        gradients = {
            i: [
                random(shape) * 10.0**i if data.draw(st.integers(0, 3)) else None
                for shape in shapes
            ]
            for i in sorted(present)
        }
        if all(g is None for of_loss in gradients.values() for g in of_loss):
            continue
        optimizer.backward(losses_with(gradients, parameters))
        optimizer.step()
        slow.step(gradients)
    for p, value in zip(parameters, slow.values, strict=True):
        torch.testing.assert_close(p.detach(), value, rtol=1e-9, atol=1e-11)


def losses_with(gradients, parameters):
    """Losses of these gradients; one without any depends on a parameter of nobody."""
    anchor = torch.zeros((), dtype=torch.float64, requires_grad=True)
    return {
        str(i): sum(
            ((p * g).sum() for p, g in zip(parameters, of_loss, strict=True) if g is not None),
            start=anchor * 1,
        )
        for i, of_loss in gradients.items()
    }


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.3, "betas": (0.8, 0.99)}], ids=str)
def test_with_one_loss_it_is_adamw_bit_for_bit(options, dtype, foreach):
    ours, theirs = TwoHeads(dtype), TwoHeads(dtype)
    optimizer = AutoBalance(ours.parameters(), lr=0.01, foreach=foreach, **options)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.01, **options)
    for x in batches(20, dtype):
        optimizer.backward([ours(x)["left"]])
        optimizer.step()
        adamw.zero_grad()
        theirs(x)["left"].backward()
        adamw.step()
    assert_equal_models(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decisions_on_the_device_give_the_same(dtype):
    host, device = TwoHeads(dtype), TwoHeads(dtype)
    train(host, AutoBalance(host.parameters()), batches(10, dtype))
    train(device, AutoBalance(device.parameters(), on_device=True), batches(10, dtype))
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    assert_equal_models(host, device, rtol=rtol, atol=rtol / 10)


def test_a_complex_parameter_follows_adamw():
    ours = torch.randn(3, dtype=torch.complex128).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    optimizer, adamw = AutoBalance([ours], lr=0.1), torch.optim.AdamW([theirs], lr=0.1)
    for _ in range(5):
        optimizer.backward([(ours - 1j).abs().square().sum()])
        optimizer.step()
        adamw.zero_grad()
        (theirs - 1j).abs().square().sum().backward()
        adamw.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@ANYWHERE
def test_the_scale_of_a_loss_changes_nothing(on_device):
    one, other = TwoHeads(), TwoHeads()
    first, second = (
        AutoBalance(m.parameters(), eps=1e-30, on_device=on_device) for m in (one, other)
    )
    for x in batches(10):
        first.backward(one(x))
        losses = other(x)
        second.backward({"left": losses["left"] * 1e6, "right": losses["right"] * 1e-6})
        first.step()
        second.step()
    assert_equal_models(one, other, rtol=1e-9, atol=1e-12)


def test_an_absent_loss_keeps_its_state_and_its_counter():
    model = TwoHeads()
    optimizer = AutoBalance(model.parameters())
    train(model, optimizer, batches(2))
    state = optimizer.state[model.trunk.weight]
    before = {name: value.clone() for name, value in state.items()}
    optimizer.backward({"right": model(batches(1)[0])["right"]})
    optimizer.step()
    assert state["step"].tolist() == [2, 3]
    for name in ("exp_avgs", "exp_avg_sqs"):
        assert torch.equal(state[name][0], before[name][0])
        assert not torch.equal(state[name][1], before[name][1])


def test_grad_is_the_sum_of_the_gradients():
    model = TwoHeads()
    x = batches(1)[0]
    expected = torch.autograd.grad(sum(model(x).values()), list(model.parameters()))
    AutoBalance(model.parameters()).backward(model(x))
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_clipping_changes_nothing():
    one, other = TwoHeads(), TwoHeads()
    for model, clipped in ((one, False), (other, True)):
        optimizer = AutoBalance(model.parameters(), lr=0.01)
        for x in batches(3):
            optimizer.backward(model(x))
            if clipped:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
    assert_equal_models(one, other)


def test_state_is_two_moments_a_loss():
    model = TwoHeads()
    optimizer = AutoBalance(model.parameters())
    train(model, optimizer, batches(1))
    for p in model.parameters():
        state = optimizer.state[p]
        assert state["exp_avgs"].shape == state["exp_avg_sqs"].shape == (2, *p.shape)
        assert state["step"].tolist() == [1, 1]


def test_schedulers_and_groups_work_as_for_adamw():
    ours, theirs = TwoHeads(), TwoHeads()
    built = []
    for model, kind in ((ours, AutoBalance), (theirs, torch.optim.AdamW)):
        heads = [*model.left.parameters(), *model.right.parameters()]
        groups = [
            {"params": model.trunk.parameters(), "lr": 0.1},
            {"params": heads, "eps": 0.1, "weight_decay": 0.0},
        ]
        optimizer = kind(groups, lr=0.01)
        built.append((optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)))
    for x in batches(6):
        built[0][0].backward([sum(ours(x).values())])
        built[1][0].zero_grad()
        sum(theirs(x).values()).backward()
        for optimizer, scheduler in built:
            optimizer.step()
            scheduler.step()
    assert_equal_models(ours, theirs)


def test_a_state_of_mtadam_is_refused():
    model = TwoHeads()
    other = MTAdam(model.parameters())
    train(model, other, batches(1))
    with pytest.raises(ValueError, match="not saved by AutoBalance, which needs exp_avg_sqs, exp"):
        AutoBalance(model.parameters()).load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "`lr` is -1.0"),
        ({"betas": (0.9, 0.999, 0.9)}, r"two numbers in \[0, 1\), such as \(0.9, 0.999\)"),
        ({"betas": (0.9, 1.0)}, r"`betas` is \(0.9, 1.0\)"),
        ({"nonfinite": "ignore"}, "`nonfinite` is 'ignore'; write 'skip' or 'raise'"),
    ],
    ids=str,
)
def test_a_hyperparameter_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        AutoBalance([torch.ones(2).requires_grad_()], **options)
