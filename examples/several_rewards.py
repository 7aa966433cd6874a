"""Several rewards for one policy: each has its own surrogate loss, a balancer puts them together.

    pip install equipoise
    python examples/several_rewards.py

A tiny policy answers prompts. Answers are sampled in groups, as in GRPO, and three rewards judge
them. Added up before they are normalised (GRPO), the reward with the widest spread decides.
Normalised one by one and then added (GDPO) is `eq.Equal`. Any method can stand in its place: the
losses part at the log-probabilities, so it looks there, and the policy sees one backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import equipoise as eq

PROMPTS, LENGTH, VOCABULARY, END = 4, 8, 6, 0
GROUP = 16
"""Answers to each prompt in one step."""

REWARDS = ["correct", "short", "varied"]


def rewards_of(answers: Tensor, prompts: Tensor) -> dict[str, Tensor]:
    """What each answer earns, ``[PROMPTS, GROUP]`` for each reward, on scales of their own."""
    words = answers != END
    asked = answers == 1 + prompts[:, None, None]
    repeated = (answers[..., 1:] == answers[..., :-1]) & words[..., 1:]
    return {
        "correct": 10.0 * asked.float().mean(dim=-1),
        "short": (words.sum(dim=-1) <= LENGTH // 2).float(),
        "varied": -0.01 * repeated.float().sum(dim=-1),
    }


def relative(reward: Tensor) -> Tensor:
    """Group-relative advantages: how much better an answer is than others to its prompt."""
    return (reward - reward.mean(dim=1, keepdim=True)) / (reward.std(dim=1, keepdim=True) + 1e-6)


def losses_of(log_probs: Tensor, advantages: dict[str, Tensor]) -> dict[str, Tensor]:
    """One surrogate loss per reward, clipped as in PPO; ``log_probs`` is ``[PROMPTS, GROUP]``."""
    ratio = (log_probs - log_probs.detach()).exp()
    clipped = ratio.clamp(0.8, 1.2)
    return {
        name: -torch.minimum(ratio * advantage, clipped * advantage).mean()
        for name, advantage in advantages.items()
    }


def train(balancer: eq.Balancer, seed: int, steps: int = 300) -> dict[str, float]:
    """The mean of each reward in the last tenth of a training."""
    torch.manual_seed(seed)
    policy = nn.Sequential(nn.Embedding(PROMPTS, 32), nn.Tanh(), nn.Linear(32, 64), nn.Tanh())
    policy.append(nn.Linear(64, LENGTH * VOCABULARY))
    adam = torch.optim.Adam(policy.parameters(), lr=3e-3)
    prompts = torch.arange(PROMPTS)
    sums = dict.fromkeys(REWARDS, 0.0)
    for step in range(steps):
        logits = policy(prompts).view(PROMPTS, 1, LENGTH, VOCABULARY).expand(-1, GROUP, -1, -1)
        words = torch.distributions.Categorical(logits=logits)
        answers = words.sample()
        log_probs = words.log_prob(answers).sum(dim=-1)
        rewards = rewards_of(answers, prompts)
        advantages = {name: relative(reward) for name, reward in rewards.items()}
        if balancer.names == ("sum",):
            advantages = {"sum": relative(torch.stack(list(rewards.values())).sum(dim=0))}
        adam.zero_grad()
        balancer.backward(losses_of(log_probs, advantages), wrt=log_probs)
        adam.step()
        if step >= steps * 9 // 10:
            for name, reward in rewards.items():
                sums[name] += reward.mean().item() / (steps // 10)
    return sums


def main() -> None:
    trials = {
        "sum of rewards (GRPO)": lambda: eq.Equal(["sum"]),
        "Equal (GDPO)": lambda: eq.Equal(REWARDS),
        "UPGrad": lambda: eq.UPGrad(REWARDS),
        "MGDA": lambda: eq.MGDA(REWARDS),
    }
    print(f"{'':22}" + "".join(f"{name:>10}" for name in REWARDS))
    for title, make in trials.items():
        found = [train(make(), seed) for seed in range(3)]
        means = [sum(one[name] for one in found) / len(found) for name in REWARDS]
        print(f"{title:22}" + "".join(f"{mean:10.3f}" for mean in means))


if __name__ == "__main__":
    main()
