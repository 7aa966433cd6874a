"""A GAN: two optimizers, each with its own balancer; the adversarial loss starts late.

    pip install equipoise
    python examples/gan.py

The generator reconstructs small images; after a while a critic, which takes two steps for each of
the generator's, also wants them to look real. A loss that has not started is left out: it is
absent, the others are balanced among themselves, and its state rests.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import equipoise as eq

STARTS, CRITIC_STEPS = 60, 2


class Generator(nn.Module):
    """An autoencoder with a narrow middle."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6))
        self.decoder = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(images)
        return self.decoder(code), code


def critic_losses(critic: nn.Module, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Hinge losses; ``fake`` is detached, so this graph ends before the generator."""
    return {
        "real": F.relu(1 - critic(real)).mean(),
        "fake": F.relu(1 + critic(fake.detach())).mean(),
    }


def generator_losses(
    generator: nn.Module, critic: nn.Module, real: Tensor, *, adversarial: bool
) -> dict[str, Tensor | None]:
    """Made after the critic's last step, so that they go backward through what it is now."""
    fake, code = generator(real)
    return {
        "pixel": (fake - real).abs().mean(),
        "code": code.square().mean(),
        "adversarial": -critic(fake).mean() if adversarial else None,
    }


def main() -> None:
    torch.manual_seed(0)
    images = torch.tensor(load_digits(return_X_y=True)[0], dtype=torch.float32) / 16
    generator = Generator()
    critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    generator_balancer = eq.AdaptiveRatio(
        ["pixel", "code", "adversarial"],
        target="pixel",
        adversarial="adversarial",
        trained=of_generator,
    )
    critic_balancer = eq.Equal(["real", "fake"])

    for step in range(200):
        adversarial = step >= STARTS
        for _ in range(CRITIC_STEPS if adversarial else 0):
            real = images[torch.randint(len(images), (64,))]
            of_critic.zero_grad()
            critic_balancer.backward(critic_losses(critic, real, generator(real)[0]))
            of_critic.step()

        real = images[torch.randint(len(images), (64,))]
        of_generator.zero_grad()
        generator_balancer.backward(
            generator_losses(generator, critic, real, adversarial=adversarial)
        )
        of_generator.step()
        if step % 40 == 39:
            report = generator_balancer.report().items()
            print(step + 1, ", ".join(f"{key} {value:.3f}" for key, value in report))


if __name__ == "__main__":
    main()
