from __future__ import annotations

import pytest
import torch

import equipoise as eq
from equipoise.gradients.gradients import Gradients
from tests.golden import tensor
from tests.methods import steps
from tests.models import MultiHead, batch

CONDITIONS = (1, 2)


class AuthorsLoop:
    """The update in the authors' training scripts, with their variables, residual first."""

    def __init__(self, statistic):
        self.statistic = statistic
        self.updates = 0
        self.weights = [1.0, 1.0, 1.0]
        self.averages = [0.0, 0.0, 0.0]
        self.running_mean = [0.0, 0.0, 0.0]

    def size(self, row, *, above, weight=1.0):
        if self.statistic == "mean":
            return row.abs().max() if above else (weight * row).abs().mean()
        deviation = row.std()
        if self.statistic == "std":
            return deviation
        return deviation / (((row - row.mean()) / deviation) ** 4).mean()

    def step(self, values, rows):
        self.updates += 1
        n = self.updates
        above = self.size(rows[0], above=True)
        hat_all = sum(
            float(above / self.size(rows[i], above=False, weight=self.weights[i]))
            for i in CONDITIONS
        )
        old = 1 - 1 / n
        self.running_mean = [
            old * mean + (1 - old) * value
            for mean, value in zip(self.running_mean, values.tolist(), strict=True)
        ]
        difficulty = [values[i].item() / self.running_mean[i] for i in range(3)]
        for i in CONDITIONS:
            hat = hat_all * difficulty[i] / sum(difficulty[j] for j in CONDITIONS)
            self.averages[i] += 1 / n * (hat - self.averages[i])
            self.weights[i] = self.averages[i]
        return self.weights


@pytest.mark.parametrize("statistic", ["mean", "std", "kurtosis"])
def test_weights_follow_the_authors_loop(statistic) -> None:
    balancer, loop = eq.DBPINN(3, statistic=statistic), AuthorsLoop(statistic)
    for values, rows in steps(15):
        found = balancer.weigh(values, Gradients(rows, [3, 4]))
        torch.testing.assert_close(found, tensor(loop.step(values, rows)), rtol=1e-11, atol=0)


def test_any_loss_may_be_the_residual() -> None:
    first = eq.DBPINN(["r", "a", "b"])
    last = eq.DBPINN(["a", "b", "r"], reference="r")
    for values, rows in steps(4):
        weights = first.weigh(values, Gradients(rows))
        turned = last.weigh(values.roll(-1), Gradients(rows.roll(-1, dims=0)))
        torch.testing.assert_close(turned, weights.roll(-1))


def test_the_weights_of_the_conditions_add_up_to_what_offsets_the_residual() -> None:
    values, rows = steps(1)[0]
    weights = eq.DBPINN(3, statistic="std").weigh(values, Gradients(rows))
    deviations = rows.std(dim=1)
    assert weights[0] == 1
    torch.testing.assert_close(weights[1:].sum(), (deviations[0] / deviations[1:]).sum())


def test_a_condition_without_a_gradient_adds_nothing() -> None:
    rows = tensor([[4.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    weights = eq.DBPINN(3).weigh(torch.ones(3).double(), Gradients(rows))
    torch.testing.assert_close(weights, tensor([1.0, 2.0, 2.0]))


def test_weights_and_means_rest_where_no_condition_has_a_gradient() -> None:
    balancer = eq.DBPINN(3)
    values, rows = steps(1)[0]
    before = balancer.weigh(values, Gradients(rows)).clone()
    none = torch.cat([rows[:1], torch.zeros(2, 7).double()])
    assert torch.equal(balancer.weigh(values, Gradients(none)), before)
    assert balancer.counts.tolist() == [1, 1, 1]


def test_an_absent_condition_keeps_its_means_and_its_count() -> None:
    model = MultiHead(3)
    balancer = eq.DBPINN(["r", "a", "b"])
    for absent in ("", "a", ""):
        losses = dict(zip("rab", model(batch()), strict=True))
        balancer.backward({name: loss for name, loss in losses.items() if name != absent})
    assert balancer.counts.tolist() == [3, 2, 3]


def test_weights_rest_while_the_residual_is_absent() -> None:
    model = MultiHead(3)
    balancer = eq.DBPINN(["r", "a", "b"])
    before = balancer.backward(dict(zip("rab", model(batch()), strict=True))).weights
    after = balancer.backward(dict(zip("ab", model(batch())[1:], strict=True))).weights
    assert torch.equal(after[1:], before[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "x"}, "`reference` is 'x'"),
        ({"statistic": "max"}, "`statistic` is 'max'; write 'mean', 'std' or 'kurtosis'"),
    ],
)
def test_a_wrong_option_is_named(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        eq.DBPINN(2, **options)
