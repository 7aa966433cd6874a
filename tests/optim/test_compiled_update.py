from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from equipoise.optim import MTAdam, compiled
from equipoise.optim.compiled import FUSED, Compiler, flat
from equipoise.optim.mtadam_update import fused_fold
from tests.golden import assert_matches, load, tensor
from tests.optim.training import snapshot

# Each compiles for seconds. What the compiler itself warns of meanwhile is not ours.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning"),
]
ANYWHERE = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
GOLDENS = ["T4_default", "amsgrad", "weight_decay", "zero_anchor_mid"]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


@ANYWHERE
@pytest.mark.parametrize("name", GOLDENS)
def test_compiled_steps_follow_the_authors_code(monkeypatch, name, on_device):
    monkeypatch.setattr(compiled, "FUSED", 1)
    golden = load(f"mtadam__{name}")
    h = golden.hyperparameters
    parameters = [
        tensor(values).reshape(shape).requires_grad_()
        for values, shape in zip(h["params0"], h["shapes"], strict=True)
    ]
    options = {key: h[key] for key in ("lr", "eps", "weight_decay", "amsgrad", "ranks")}
    betas = (h["beta1"], h["beta2"], h["beta3"])
    optimizer = MTAdam(
        parameters, betas=betas, foreach=False, fused=True, on_device=on_device, **options
    )
    for index, step in enumerate(golden.steps):
        losses = [
            sum((p * tensor(g).view_as(p)).sum() for p, g in zip(parameters, grads, strict=True))
            for grads in step["gradients"]
        ]
        optimizer.backward(losses)
        optimizer.step()
        moved = [p.detach().flatten() for p in parameters]
        assert_matches(golden, moved, [tensor(p) for p in step["params"]], f"step {index}")


class Wide(nn.Module):
    """A large matrix, a small bias, and a convolution whose weight lies channels last."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.matrix = nn.Linear(512, 512, dtype=torch.float64)
        self.conv = nn.Conv2d(256, 128, 3, dtype=torch.float64)
        self.to(dtype)
        self.conv.to(memory_format=torch.channels_last)

    def losses(self, seed):
        generator = torch.Generator().manual_seed(seed)
        x, y = (
            torch.randn(shape, generator=generator, dtype=torch.float64).to(self.matrix.weight)
            for shape in [(4, 512), (1, 256, 3, 3)]
        )
        shared, image = self.matrix(x), self.conv(y)
        return [shared.square().mean(), 100 * (shared.abs().mean() + image.square().mean())]


def trained(model, options, *, hurt=lambda _step, losses: losses):
    optimizer = MTAdam(model.parameters(), **options)
    for step in range(4):
        for group in optimizer.param_groups:  # as schedulers do
            group["lr"] = 0.01 / (1 + step)
            group["betas"] = (0.9 - 0.01 * step, 0.99, 0.9)
        optimizer.backward(hurt(step, model.losses(step)))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return snapshot(model, optimizer)


@ANYWHERE
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amsgrad": True, "maximize": True},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    ids=["plain", "amsgrad", "coupled", "decoupled"],
)
def test_compiled_steps_equal_uncompiled_ones(options, on_device):
    options = {**options, "on_device": on_device}
    expected = trained(Wide(), options)
    found = trained(Wide(), {**options, "fused": True})
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_compiled_steps_in_single_precision_agree_to_rounding():
    expected = trained(Wide(torch.float32), {})
    found = trained(Wide(torch.float32), {"fused": True})
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@ANYWHERE
def test_a_gradient_that_is_not_finite_leaves_no_trace(on_device):
    def hurt(step, losses):
        return [losses[0], losses[1] * (torch.nan if step == 2 else 1)]

    options = {"on_device": on_device}
    expected = trained(Wide(), options, hurt=hurt)
    found = trained(Wide(), {**options, "fused": True}, hurt=hurt)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_compiled_and_uncompiled_optimizers_load_each_others_state():
    model = Wide()
    fused = MTAdam(model.parameters(), fused=True, losses=2)
    fused.backward(model.losses(0))
    fused.step()
    twin = copy.deepcopy(model)
    plain = MTAdam(twin.parameters(), losses=2)
    plain.load_state_dict(fused.state_dict())
    for optimizer, owner in ((fused, model), (plain, twin)):
        optimizer.backward(owner.losses(1))
        optimizer.step()
    torch.testing.assert_close(snapshot(twin, plain), snapshot(model, fused), rtol=1e-9, atol=1e-12)


@pytest.fixture
def _no_compiler(tmp_path):
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
        torch._inductor.utils.fresh_cache(dir=str(tmp_path), delete=False),
    ):
        yield


def fold_arguments():
    gradient, moment, total = torch.ones(8), torch.ones(8), torch.ones(8)
    return gradient, moment, total, torch.tensor(2.0), None, 0.5


@pytest.mark.usefixtures("_no_compiler")
def test_where_compiling_fails_the_step_is_taken_uncompiled_with_a_warning():
    arguments = fold_arguments()
    chosen = Compiler(None)
    with pytest.warns(UserWarning, match="MTAdam's update is not compiled"):
        chosen.run(fused_fold, *arguments, first=False)
    torch.testing.assert_close(arguments[1], torch.full((8,), 2.5))
    torch.testing.assert_close(arguments[2], torch.full((8,), 3.0))
    chosen.run(fused_fold, *arguments, first=True)  # without a second warning
    torch.testing.assert_close(arguments[2], torch.full((8,), 2.0))


@pytest.mark.usefixtures("_no_compiler")
def test_where_compiling_was_asked_for_and_fails_the_error_says_what_is_missing():
    with pytest.raises(RuntimeError, match=r"C\+\+ compiler"):
        Compiler(True).run(fused_fold, *fold_arguments(), first=False)


def test_only_large_dense_parameters_are_compiled_and_on_the_cpu_only_when_asked_for():
    large = torch.empty(FUSED)
    assert Compiler(True).suits(large)
    assert Compiler(True).suits(large.view(512, 512).t())
    assert not Compiler(True).suits(torch.empty(FUSED - 1))
    assert not Compiler(True).suits(torch.empty(FUSED, 2)[:, 0])
    assert not Compiler(None).suits(large)
    assert not Compiler(False).suits(large)


def test_memory_in_another_order_is_copied_into_that_of_the_parameter():
    like = torch.empty(2, 3).t()
    given = torch.arange(6.0).view(3, 2)
    assert flat(given, like).tolist() == [0, 2, 4, 1, 3, 5]
    assert flat(like, like).data_ptr() == like.data_ptr()
