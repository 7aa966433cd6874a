from __future__ import annotations

import pytest
import torch
from equipoise.optim import MTAdam

from tests.golden import assert_matches, load, names, tensor

BOTH = pytest.mark.parametrize("foreach", [False, True], ids=["tensor by tensor", "packed"])


def linear_losses(parameters, gradients):
    """Losses whose gradients are exactly the given numbers."""
    return [
        sum((p * tensor(g).view_as(p)).sum() for p, g in zip(parameters, of_loss, strict=True))
        for of_loss in gradients
    ]


@BOTH
@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("name", names("mtadam__*"))
def test_parameters_and_norms_follow_the_authors_code(name, foreach, on_device):
    golden = load(name)
    h = golden.hyperparameters
    parameters = [
        tensor(values).reshape(shape).requires_grad_()
        for values, shape in zip(h["params0"], h["shapes"], strict=True)
    ]
    optimizer = MTAdam(
        parameters,
        lr=h["lr"],
        betas=(h["beta1"], h["beta2"], h["beta3"]),
        eps=h["eps"],
        weight_decay=h["weight_decay"],
        amsgrad=h["amsgrad"],
        ranks=h["ranks"],
        foreach=foreach,
        on_device=on_device,
    )
    for index, step in enumerate(golden.steps):
        optimizer.backward(linear_losses(parameters, step["gradients"]))
        optimizer.step()
        moved = [p.detach().flatten() for p in parameters]
        assert_matches(golden, moved, [tensor(p) for p in step["params"]], f"step {index} params")
        norms = torch.stack([optimizer.state[p]["norms"] for p in parameters], dim=1)
        assert_matches(golden, norms, tensor(step["norms"]), f"step {index} norms")
