from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise.integrations.multi_term_loss import multi_term_loss

MODEL = nn.Sequential(*[nn.Linear(64, 64) for _ in range(20)])
ADAM = torch.optim.Adam(MODEL.parameters())
BALANCER = eq.GradNorm(["near", "far"])
MISPLACED = {
    "parameters as names": lambda: eq.GradNorm(MODEL.parameters()),
    "an optimizer as names": lambda: eq.GradNorm(ADAM),
    "a model as names": lambda: eq.GradNorm(MODEL),
    "parameters as the names of an optimizer": lambda: eq.MTAdam(
        MODEL.parameters(), losses=MODEL.parameters()
    ),
    "a weight as priorities": lambda: eq.GradNorm(
        ["near", "far"], priorities=MODEL[0].weight.detach()
    ),
    "a model below a wrapper": lambda: eq.Primary(MODEL, "near"),
    "an optimizer below a wrapper": lambda: eq.Primary(ADAM, "near"),
    "a model as what is trained": lambda: eq.GradNorm(2, trained=SimpleNamespace(model=MODEL)),
    "an optimizer as a place to watch": lambda: eq.GradNorm(2, wrt=ADAM).backward(
        list(MODEL(torch.ones(2, 64)).square().mean(dim=0)[:2])
    ),
    "a model that is recorded": lambda: eq.Recorder(MODEL, "unused"),
    "an optimizer that is recorded": lambda: eq.Recorder(ADAM, "unused"),
    "a model's state as losses": lambda: BALANCER.backward(MODEL.state_dict()),
    "parameters as losses": lambda: BALANCER.backward(MODEL.parameters()),
}


@pytest.mark.parametrize("misplaced", MISPLACED)
def test_what_is_in_the_wrong_place_is_named_and_not_printed_whole(misplaced) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        MISPLACED[misplaced]()
    assert len(str(caught.value)) < 300


TAKES_LOSSES = {
    "a balancer": BALANCER.backward,
    "a balanced loss": BALANCER,
    "a wrapper": lambda total: eq.Primary(eq.UPGrad(2), "0").backward(total),
    "MTAdam": lambda total: eq.MTAdam(MODEL.parameters()).backward(total),
    "AutoBalance": lambda total: eq.AutoBalance(MODEL.parameters()).backward(total),
    "a diagnosis": lambda total: eq.Diagnosis(["near", "far"]).observe(total),
    "a whole diagnosis": lambda total: eq.diagnose(lambda _: total, [0]),
    "a measurement": eq.measure,
    "a loss for a framework": lambda total: multi_term_loss(eq.MTAdam(MODEL.parameters()), total),
}


@pytest.mark.parametrize("taker", TAKES_LOSSES)
def test_a_sum_in_place_of_the_losses_is_told_so_everywhere(taker) -> None:
    total = MODEL(torch.ones(2, 64)).sum()
    with pytest.raises(ValueError, match="is one number; pass the losses themselves"):
        TAKES_LOSSES[taker](total)


NAMED = {
    "losses": lambda: BALANCER.backward({"faar": torch.ones((), requires_grad=True)}),
    "priorities": lambda: eq.GradNorm(["near", "far"], priorities={"faar": 2.0}),
    "weights": lambda: eq.Fixed(["near", "far"], weights={"faar": 2.0}),
    "kpis": lambda: eq.DynamicTaskPrioritization(["near", "far"]).observe({"faar": 0.5}),
    "diagonals": lambda: eq.NTKTrace(["near", "far"]).observe({"faar": torch.ones(3)}),
}


@pytest.mark.parametrize("argument", NAMED)
def test_the_mistyped_name_of_a_loss_is_answered_with_the_nearest(argument) -> None:
    says = rf"`{argument}` has the unknown name 'faar'; .* 'near', 'far'\. Did you mean 'far'\?"
    with pytest.raises(ValueError, match=says):
        NAMED[argument]()


@pytest.mark.parametrize(
    ("build", "meant"),
    [
        (lambda: eq.MTAdam(MODEL.parameters(), priorities=[1, 2]), "ranks"),
        (lambda: eq.MTAdam(MODEL.parameters(), weights=[1, 2]), "ranks"),
        (lambda: eq.MTAdam(MODEL.parameters(), learning_rate=0.1), "lr"),
        (lambda: eq.GradNorm(2, weights=[1, 2]), "priorities"),
        (lambda: eq.GradNorm(2, update_every=10), "every"),
    ],
)
def test_another_word_for_an_option_is_answered_with_ours(build, meant) -> None:
    with pytest.raises(TypeError, match=rf"Did you mean `{meant}`\?"):
        build()
