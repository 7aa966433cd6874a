from __future__ import annotations

import torch

from equipoise.parts.random import Drawing


def sample(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(4, generator=generator)


def test_draws_resume_bit_for_bit() -> None:
    one, other = Drawing(("a",)), Drawing(("a",))
    one.draw(sample, torch.zeros(()))
    other.load_state_dict(one.state_dict())
    like = torch.zeros((), dtype=torch.float64)
    assert torch.equal(one.draw(sample, like), other.draw(sample, like))


def test_a_given_generator_is_drawn_from() -> None:
    expected = sample(torch.Generator().manual_seed(3))
    drawing = Drawing(("a",), torch.Generator().manual_seed(3))
    assert torch.equal(drawing.draw(sample, torch.zeros(())), expected)


def test_without_one_torch_s_own_seed_fixes_the_draws() -> None:
    torch.manual_seed(5)
    one = Drawing(("a",)).draw(sample, torch.zeros(()))
    torch.manual_seed(5)
    assert torch.equal(Drawing(("a",)).draw(sample, torch.zeros(())), one)
