"""What all weights of points have in common, whatever their formula."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

import equipoise as eq
from equipoise.pointwise import Causal, ResidualAttention, SelfAdaptive

POINTS = 6

KINDS = {
    "attention": lambda: ResidualAttention(POINTS, decay=0.9, lr=0.1),
    "lazy attention": lambda: ResidualAttention(decay=0.9, lr=0.1),
    "adaptive": lambda: SelfAdaptive(POINTS, lr=0.1),
    "adaptive sgd": lambda: SelfAdaptive(POINTS, lr=0.1, optimizer="sgd", mask="sigmoid"),
    "causal": lambda: Causal(3, eps=(0.1, 1.0), delta=0.9),
}
NUMBERED = {name: KINDS[name] for name in ("attention", "adaptive", "adaptive sgd")}


@pytest.fixture(params=KINDS)
def module(request):
    return KINDS[request.param]()


@pytest.fixture(params=NUMBERED)
def numbered(request):
    return NUMBERED[request.param]()


def residuals(seed: int = 0, count: int = POINTS, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator, dtype=dtype).requires_grad_()


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def train(module, steps: range) -> list[float]:
    return [module(residuals(seed)).item() for seed in steps]


def test_the_loss_is_a_scalar_whose_gradient_has_fixed_weights(module) -> None:
    r = residuals()
    loss = module(r)
    assert loss.shape == ()
    (found,) = torch.autograd.grad(loss, r)
    ratio = found / r  # 2 w / N, the same for the points of a chunk
    assert (ratio >= 0).all()
    torch.testing.assert_close((found * r).sum() / 2, loss)


def test_a_column_counts_as_a_vector(module) -> None:
    other = deepcopy(module)
    assert module(residuals()[:, None]).item() == other(residuals()).item()
    assert equal(snapshot(module), snapshot(other))


def test_a_resumed_run_continues_as_if_nothing_had_been(module) -> None:
    resumed = deepcopy(module)
    train(module, range(4))
    assert all(isinstance(tensor, torch.Tensor) for tensor in module.state_dict().values())
    resumed.load_state_dict(snapshot(module))
    assert train(resumed, range(4, 8)) == train(module, range(4, 8))
    assert equal(snapshot(resumed), snapshot(module))


@pytest.mark.parametrize("mode", ["no_grad", "inference", "eval"])
def test_nothing_is_learned_where_nothing_is_trained(module, mode) -> None:
    train(module, range(2))
    before = snapshot(module)
    if mode == "eval":
        module.eval()(residuals(5))
    else:
        with torch.no_grad() if mode == "no_grad" else torch.inference_mode():
            module(residuals(5).detach())
    assert equal(snapshot(module), before)
    module.train()
    train(module, range(2, 3))  # and learning goes on
    assert not equal(snapshot(module), before)


def test_a_first_look_without_gradients_settles_no_number_of_points() -> None:
    lazy = ResidualAttention()
    with torch.no_grad():
        lazy(residuals(0, 9))
    assert lazy.points is None
    lazy(residuals(0, 4))
    assert lazy.points == 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_never_reaches_the_state(module, bad) -> None:
    train(module, range(3))
    undisturbed = deepcopy(module)
    poisoned = residuals(7).detach()
    poisoned[2] = bad
    assert not module(poisoned.requires_grad_()).isfinite()
    assert train(module, range(3, 6)) == train(undisturbed, range(3, 6))


def test_finite_residuals_whose_squares_overflow_do_not_either(numbered) -> None:
    numbered(torch.full((POINTS,), 1e30, requires_grad=True))
    assert all(tensor.isfinite().all() for tensor in numbered.state_dict().values())


def test_state_follows_upwards_in_precision(module) -> None:
    loss = module(residuals(dtype=torch.float32))
    assert loss.dtype == module.weights.dtype == torch.float32
    assert module(residuals(dtype=torch.float64)).dtype == torch.float64
    assert module.weights.dtype == torch.float64
    assert module(residuals().bfloat16()).isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_loses_count(dtype) -> None:
    r = torch.full((3000,), 300.0, dtype=dtype, requires_grad=True)
    for module in (SelfAdaptive(3000, lr=0.1), Causal(2)):
        index = torch.arange(3000) if isinstance(module, SelfAdaptive) else torch.zeros(3000).long()
        loss = module(r, index=index)
        torch.testing.assert_close(loss, r.detach()[0].float().square())
        assert torch.autograd.grad(loss, r)[0].isfinite().all()


@pytest.mark.parametrize("form", [list, torch.tensor])
def test_the_state_of_points_outside_the_batch_rests(numbered, form) -> None:
    numbered(residuals())
    before = snapshot(numbered)
    numbered(residuals(1, 3), index=form([4, 0, 2]))
    after = snapshot(numbered)
    for name in numbered.declared:
        assert torch.equal(after[name][[1, 3, 5]], before[name][[1, 3, 5]]), name
        assert (after[name][[0, 2, 4]] != before[name][[0, 2, 4]]).all(), name


def test_all_points_by_number_are_all_points(numbered) -> None:
    other = deepcopy(numbered)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for seed in range(4):
        whole = numbered(residuals(seed))
        torch.testing.assert_close(other(residuals(seed)[order], index=order), whole)
    torch.testing.assert_close(other.weights, numbered.weights)


def test_a_point_drawn_twice_learns_once(numbered) -> None:
    other = deepcopy(numbered)
    r = residuals(0, 2)
    numbered(r[[0, 1, 1, 0]], index=[0, 1, 1, 0])
    once = other(r[[0, 1]], index=[0, 1])
    assert numbered.get_buffer(numbered._lead)[2:].equal(other.get_buffer(other._lead)[2:])
    assert once.isfinite()


def test_resampled_points_start_afresh_and_others_go_on(numbered) -> None:
    fresh = snapshot(numbered)
    train(numbered, range(3))
    before = snapshot(numbered)
    numbered.reset([1, 4])
    for name in numbered.declared:
        now = numbered.state_dict()[name]
        assert torch.equal(now[[1, 4]], fresh[name][[1, 4]].to(now)), name
        assert torch.equal(now[[0, 2, 3, 5]], before[name][[0, 2, 3, 5]]), name


def test_a_reset_of_all_is_a_new_module(module) -> None:
    new = deepcopy(module)
    train(module, range(3))
    module.reset()
    assert train(module, range(4)) == train(new, range(4))


def test_a_reset_may_change_how_many_points_there_are(numbered) -> None:
    train(numbered, range(2))
    numbered.reset(points=9)
    assert numbered.points == len(numbered.weights) == 9
    assert numbered(residuals(0, 9)).isfinite()
    restored = deepcopy(numbered)
    restored.reset()
    restored.load_state_dict(snapshot(numbered))
    assert equal(snapshot(restored), snapshot(numbered))


def test_a_lazy_module_is_told_new_points_by_the_next_step() -> None:
    lazy = ResidualAttention()
    lazy(residuals())
    lazy.reset([0])
    assert lazy.weights[0] == 0
    lazy.reset()
    lazy(residuals(0, 9))
    assert lazy.points == 9


def test_any_other_number_of_points_is_refused_with_what_to_write(numbered) -> None:
    with pytest.raises(
        ValueError, match=r"4 residuals came for 6 points; write `index=`.*points=4"
    ):
        numbered(residuals(0, 4))


def test_a_lazy_module_cannot_place_a_batch() -> None:
    with pytest.raises(ValueError, match=r"write `ResidualAttention\(points=...\)`"):
        ResidualAttention()(residuals(), index=range(POINTS))


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([0, 1], ValueError, "2 entries for 3 residuals"),
        ([0, 1, 6], ValueError, "holds 6; .* from 0 to 5"),
        ([-1, 1, 2], ValueError, "holds -1"),
        (torch.tensor([0.0, 1.0, 2.0]), TypeError, "by integers"),
        (torch.tensor([True, True, True]), TypeError, "mask.nonzero"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(numbered, index, error, message) -> None:
    before = snapshot(numbered)
    with pytest.raises(error, match=message):
        numbered(residuals(0, 3), index=index)
    assert equal(snapshot(numbered), before)


def test_residuals_of_another_form_are_refused(module) -> None:
    with pytest.raises(TypeError, match="is a list"):
        module([1.0, 2.0])
    with pytest.raises(ValueError, match=r"shape \[6, 2\].*one module for each"):
        module(torch.ones(6, 2))
    with pytest.raises(ValueError, match="is empty"):
        module(torch.ones(0))


def test_a_reset_that_does_not_fit_is_refused(numbered) -> None:
    with pytest.raises(ValueError, match="both given"):
        numbered.reset([0], points=4)
    with pytest.raises(ValueError, match="`points` is 0"):
        numbered.reset(points=0)
    with pytest.raises(ValueError, match="holds 6"):
        numbered.reset([6])


@pytest.mark.parametrize(
    "balancer", [eq.GradNorm, eq.UPGrad, eq.LearningRateAnnealing, eq.ReLoBRaLo]
)
def test_any_balancer_goes_on_top(module, balancer) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    x = torch.linspace(-1, 1, POINTS)[:, None]
    names = ["equation", "boundary"]
    given = {"reference": "equation"} if balancer is eq.LearningRateAnnealing else {}
    on_top = balancer(names, **given)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    error = (model(x) - x.sin()).square().mean().item()
    for _ in range(60):
        residual = model(x) - x.sin()
        boundary = model(x[:1]).square().mean() * 1e-3
        optimizer.zero_grad()
        on_top.backward({"equation": module(residual), "boundary": boundary})
        optimizer.step()
    assert (model(x) - x.sin()).square().mean().item() < error


def test_state_that_somebody_wants_to_train_is_refused(module) -> None:
    for name in module.declared:
        state = module.get_buffer(name)
        state.requires_grad_(state.is_floating_point())
        if state.requires_grad:
            with pytest.raises(TypeError, match="leave it out of the optimizer"):
                module(residuals())
            state.requires_grad_(False)
    with pytest.raises(TypeError, match="leave it out of the optimizer"):
        setattr(module, name, torch.nn.Parameter(state, requires_grad=False))
