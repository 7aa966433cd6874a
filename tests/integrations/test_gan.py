from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.integrations.loops import balancer_of
from tests.methods import NAMES, make

ROUNDS, STARTS, CRITIC_STEPS = 6, 3, 2


class Players:
    """A generator and a critic, with an optimizer each."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4)).double()
        self.critic = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
        self.of_generator = torch.optim.SGD(self.generator.parameters(), lr=0.05)
        self.of_critic = torch.optim.SGD(self.critic.parameters(), lr=0.05)

    def critic_losses(self, z, real):
        fake = self.generator(z).detach()
        return [(self.critic(real) - 1).square().mean(), self.critic(fake).square().mean()]

    def generator_losses(self, z, real, *, adversarial):
        fake = self.generator(z)
        return {
            "a": (fake - real).abs().mean(),
            "b": fake.square().mean(),
            "c": (self.critic(fake) - 1).square().mean() if adversarial else None,
        }


def play(players, of_generator, of_critic):
    generator = torch.Generator().manual_seed(1)
    states = []
    for turn in range(ROUNDS):
        for _ in range(CRITIC_STEPS):
            z, real = (torch.randn(5, n, generator=generator, dtype=torch.float64) for n in (3, 4))
            players.of_critic.zero_grad()
            of_critic(players.critic_losses(z, real))
            players.of_critic.step()
        losses = players.generator_losses(z, real, adversarial=turn >= STARTS)
        players.of_generator.zero_grad()
        of_generator(losses)
        players.of_generator.step()
        states.append([p.detach().clone() for p in players.generator.parameters()])
    return states


def plain_sum(losses):
    given = losses.values() if isinstance(losses, dict) else losses
    sum(loss for loss in given if loss is not None).backward()


def test_with_equal_weights_the_game_is_that_of_plain_sums() -> None:
    ours = play(Players(), balancer_of("equal").backward, make("equal", ["a", "b"]).backward)
    plain = play(Players(), plain_sum, plain_sum)
    for mine, its in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("name", NAMES)
def test_two_balancers_play_k_to_one_with_a_loss_that_starts_late(name) -> None:
    of_generator, of_critic = balancer_of(name), make(name, ["a", "b"])
    players = Players()
    before = [p.detach().clone() for p in players.critic.parameters()]
    states = play(players, of_generator.backward, of_critic.backward)
    assert all(parameter.isfinite().all() for state in states for parameter in state)
    assert not torch.equal(states[0][0], states[-1][0])
    assert not torch.equal(before[0], next(players.critic.parameters()))
    counted = of_generator.get_buffer("weight_count")
    assert counted[2] < counted[0]


def test_generator_losses_made_before_the_critic_stepped_are_refused_with_a_reason() -> None:
    players, balancer = Players(), balancer_of("gradnorm")
    z, real = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    losses = players.generator_losses(z, real, adversarial=True)
    make("equal", ["a", "b"]).backward(players.critic_losses(z, real))
    players.of_critic.step()
    with pytest.raises(RuntimeError, match="compute the loss again after that step"):
        balancer.backward(losses)
