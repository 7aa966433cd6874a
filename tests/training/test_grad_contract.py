"""What every method leaves in `.grad` is what a backward pass would have left."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.registry import capabilities
from tests.methods import LOSSES, NAMES, make, of_kind

WRAPPED: dict[str, Callable[[], eq.Balancer]] = {
    "primary, upgrad": lambda: eq.Primary(make("upgrad"), "a"),
    "primary, uncertainty": lambda: eq.Primary(make("uncertainty"), "a"),
    "primary, graddrop": lambda: eq.Primary(make("graddrop"), "a"),
    "shares, mgda": lambda: eq.Shares(make("mgda"), [0.5, 0.3, 0.2]),
    "shares, trimmedmean": lambda: eq.Shares(make("trimmedmean"), [0.5, 0.3, 0.2]),
    "behind, cagrad": lambda: eq.Behind(make("cagrad")),
}
PLACES = {
    f"{name} at the {wrt}": lambda name=name, wrt=wrt: make(name, wrt=wrt)
    for name in ("upgrad", "gradnorm", "imtlg", "graddrop", "metabalance", "config")
    for wrt in ("representation", "last_shared")
    if not (name in of_kind(weighting=False) and wrt == "last_shared")
}
CASES = {name: lambda name=name: make(name) for name in NAMES} | WRAPPED | PLACES
PARTS = ("parts, upgrad", "parts, gradnorm")
every_case = pytest.mark.parametrize("case", [*CASES, *PARTS])


def built(case: str, model: nn.Module) -> eq.Balancer:
    if case not in PARTS:
        return CASES[case]()
    first, second, *_ = model.parameters()
    parts = {"first": first, "second": second}
    return eq.PerModule(make(case.removeprefix("parts, ")), parts)


class Pictures(nn.Module):
    """A convolutional trunk in channels-last memory, and a weight stored transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.mix = nn.Parameter(torch.randn(5, 4).t())
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in LOSSES)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.second(self.first(x).tanh()).tanh().mean(dim=(2, 3)) @ self.mix
        return {
            name: (i + 1) * (head(hidden) - i).square().mean()
            for i, (name, head) in enumerate(zip(LOSSES, self.heads, strict=True))
        }


class Tokens(nn.Module):
    """Two embeddings that are added to each other: their gradients flow as one tensor."""

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4, sparse=sparse)
        self.scale = nn.Parameter(torch.ones(4))
        self.shift = nn.Parameter(torch.zeros(6, 4))
        self.bias = nn.Parameter(torch.zeros(6, 4))
        self.trunk = nn.Linear(4, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in LOSSES)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.trunk((self.words(x) * self.scale + self.shift + self.bias).tanh()).tanh()
        return {
            name: (i + 1) * (head(hidden) - i).square().mean()
            for i, (name, head) in enumerate(zip(LOSSES, self.heads, strict=True))
        }


class Waves(nn.Module):
    """A trunk with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(torch.randn(4, 5, dtype=torch.complex64))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in LOSSES)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = (x.to(torch.complex64) @ self.spectrum).abs()
        return {
            name: (i + 1) * (head(hidden) - i).square().mean()
            for i, (name, head) in enumerate(zip(LOSSES, self.heads, strict=True))
        }


def pictures() -> torch.Tensor:
    return torch.randn(5, 3, 6, 6)


def words() -> torch.Tensor:
    return torch.randint(0, 7, (6,))


def plainly(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients that the plain sum leaves in a copy of the model."""
    twin = copy.deepcopy(model)
    twin.zero_grad()
    sum(twin(x).values()).backward()
    return {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}


@every_case
def test_strides_are_those_that_a_backward_pass_leaves(case) -> None:
    model = Pictures()
    balancer = built(case, model)
    for _ in range(2):
        x = pictures()
        model.zero_grad()
        balancer.backward(model(x))
        expected = plainly(model, x)
        for name, parameter in model.named_parameters():
            assert parameter.grad.stride() == expected[name].stride(), name


@every_case
def test_no_two_parameters_share_memory_and_nothing_is_expanded(case) -> None:
    model = Tokens()
    balancer = built(case, model)
    balancer.backward(model(words()))
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == plainly(model, words()).keys()
    places = {}
    for name, gradient in found.items():
        assert 0 not in gradient.stride() or gradient.numel() == 1, name
        places[name] = gradient.untyped_storage().data_ptr()
    assert len(set(places.values())) == len(places)


@every_case
def test_two_micro_batches_add_up_and_clipping_sees_every_gradient_once(case) -> None:
    model = Tokens()
    balancer = built(case, model)
    x = words()
    balancer.backward(model(x))
    once = {name: p.grad.clone() for name, p in model.named_parameters()}
    norm = torch.stack([gradient.norm() for gradient in once.values()]).norm()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    torch.testing.assert_close(torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9), norm)
    with balancer.frozen():
        balancer.backward(model(x))
        model_twice = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        if balancer.random and not balancer.weighting:
            return  # another draw
        balancer.backward(model(x))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(model_twice[name], before[name] + parameter.grad)


@every_case
def test_hooks_fire_as_autograd_fires_them(case) -> None:
    model = Pictures()
    balancer = built(case, model)
    after: Counter[str] = Counter()
    on_tensor: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: after.update([name]))
        parameter.register_hook(lambda _, name=name: on_tensor.update([name]))
    balancer.backward(model(pictures()))
    names = {name for name, _ in model.named_parameters()}
    assert after == Counter(dict.fromkeys(names, 1))
    assert set(on_tensor) == names


def stepping(optimizer: torch.optim.Optimizer) -> Callable[[torch.Tensor], None]:
    def hook(_: torch.Tensor) -> None:
        optimizer.step()
        optimizer.zero_grad()

    return hook


@every_case
def test_an_optimizer_inside_the_backward_pass_trains_every_parameter(case) -> None:
    model = Tokens()
    balancer = built(case, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        optimizer = torch.optim.SGD([parameter], lr=0.01)
        parameter.register_post_accumulate_grad_hook(stepping(optimizer))
    for _ in range(3):
        balancer.backward(model(words()))
    assert all(p.grad is None for p in model.parameters())
    for name, parameter in model.named_parameters():
        alone = case == "chebyshev" and name.startswith("heads")  # whose worst loss counts alone
        assert alone or not torch.equal(parameter, before[name]), name


@every_case
def test_complex_parameters_keep_their_imaginary_part(case) -> None:
    model = Waves()
    balancer = built(case, model)
    x = torch.randn(6, 4)
    balancer.backward(model(x))
    gradient = model.spectrum.grad
    assert gradient.is_complex()
    rows = torch.stack(
        [
            torch.view_as_real(
                torch.autograd.grad(loss, model.spectrum, retain_graph=True)[0]
            ).flatten()
            for loss in model(x).values()
        ]
    )
    flat = torch.view_as_real(gradient).flatten()
    assert flat.view(-1, 2)[:, 1].abs().max() > 0
    if balancer.weighting and "primary" not in case:
        weights = torch.tensor(list(balancer.weights.values()))
        torch.testing.assert_close(flat, weights @ rows, rtol=1e-4, atol=1e-5)


@every_case
def test_sparse_gradients_stay_sparse_or_are_refused_in_a_sentence(case) -> None:
    model = Tokens(sparse=True)
    balancer = built(case, model)
    compares = capabilities(balancer).watches == "shared" or "primary" in case or "shares," in case
    if not compares or "at the" in case:
        balancer.backward(model(words()))
        assert model.words.weight.grad.is_sparse
        return
    with pytest.raises(TypeError, match=r"shape \(7, 4\) is sparse.*sparse=False"):
        balancer.backward(model(words()))
    assert all(p.grad is None for p in model.parameters())


@every_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_arithmetic_is_the_same_inside_autocast(case, dtype) -> None:
    torch.manual_seed(0)
    model = Tokens()
    outside = built(case, model)
    inside = copy.deepcopy(outside)
    for _ in range(3):
        x = words()
        with torch.autocast("cpu", dtype=dtype):
            losses = model(x)
            inside.backward(losses, retain_graph=True)
        found = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        outside.backward(losses)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=0, msg=name)
        model.zero_grad()


@pytest.mark.parametrize("name", of_kind(weighting=True))
def test_the_balanced_loss_is_the_same_inside_autocast(name) -> None:
    model = Tokens()
    outside = make(name)
    inside = copy.deepcopy(outside)
    losses = model(words())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = inside(losses)
    assert torch.equal(found, outside(losses))
