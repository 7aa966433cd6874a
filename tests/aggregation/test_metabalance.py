from __future__ import annotations

import pytest
import torch

from equipoise.aggregation.metabalance import MetaBalance
from equipoise.gradients.gradients import Gradients
from tests.golden import assert_matches, load, names, tensor
from tests.models import MultiHead, batch, jacobian


@pytest.mark.parametrize("name", names("metabalance_*"))
def test_the_combined_gradient_follows_the_authors_code(name):
    golden = load(name)
    options = golden.hyperparameters
    balancer = None
    for index, step in enumerate(golden.steps):
        rows = torch.stack([torch.cat([tensor(p) for p in parts]) for parts in step["gradients"]])
        sizes = [len(part) for part in step["gradients"][0]]
        balancer = balancer or MetaBalance(
            len(rows), relax_factor=options["relax_factor"], beta=options["beta"]
        )
        combined = balancer.combine(tensor(step["losses"]), Gradients(rows, sizes))
        expected = [tensor(part) for part in step["gradient"]]
        assert_matches(golden, combined.split(sizes), expected, f"step {index}")


def test_each_tensor_of_a_model_gets_auxiliary_gradients_of_the_targets_size():
    model = MultiHead(heads=3)
    losses = model(batch())
    expected = []
    for parameter in model.trunk.parameters():
        rows = jacobian(losses, [parameter])
        norms = rows.norm(dim=1)
        expected.append(((norms[1] / norms) @ rows).view_as(parameter))
    MetaBalance(["a", "b", "c"], target="b", relax_factor=1.0).backward(
        dict(zip("abc", losses, strict=True))
    )
    torch.testing.assert_close([p.grad for p in model.trunk.parameters()], expected)


def test_without_relaxation_the_sum_is_plain():
    rows = torch.randn(3, 5, dtype=torch.float64)
    combined = MetaBalance(3, relax_factor=0.0).combine(torch.ones(3), Gradients(rows, [2, 3]))
    torch.testing.assert_close(combined, rows.sum(0))


def test_gradients_of_zero_divide_nothing():
    balancer = MetaBalance(2)
    for rows in ([[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [1.0, 2.0]]):
        combined = balancer.combine(tensor([1.0, 1.0]), Gradients(tensor(rows)))
        assert combined.isfinite().all()
        assert balancer.skipped.sum() == 0


def test_the_sum_is_plain_while_the_target_is_absent():
    model = MultiHead(heads=3)
    balancer = MetaBalance(["a", "b", "c"])
    balancer.backward(dict(zip("abc", model(batch()), strict=True)))
    model.zero_grad()
    losses = model(batch())
    shared = list(model.trunk.parameters())
    expected = jacobian(losses[1:], shared).sum(0)
    balancer.backward({"b": losses[1], "c": losses[2]})
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in shared]), expected)


def test_averages_are_resumed_from_a_checkpoint():
    balancer, resumed = MetaBalance(2), MetaBalance(2)
    first, second = torch.randn(2, 2, 5, dtype=torch.float64)
    ones = tensor([1.0, 1.0])
    balancer.combine(ones, Gradients(first, [2, 3]))
    resumed.load_state_dict(balancer.state_dict())
    after = balancer.combine(ones, Gradients(second, [2, 3]))
    assert torch.equal(resumed.combine(ones, Gradients(second, [2, 3])), after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "x"}, "`target` is 'x'"),
        ({"relax_factor": 1.5}, "`relax_factor` is 1.5"),
        ({"beta": 1.0}, "`beta` is 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MetaBalance(2, **options)
