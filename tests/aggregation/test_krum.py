from __future__ import annotations

import pytest
import torch

from equipoise import Gradients
from equipoise.aggregation.krum import Krum
from tests.aggregation.following import follow_gradient, follow_live, follow_weights, independent
from tests.golden import load
from tests.models import MultiHead, batch, flat_grad, jacobian


# Among the references' rows are some of zero, which a method warns of.
@pytest.mark.filterwarnings("ignore:The gradient of loss .* is exactly zero")
@pytest.mark.parametrize(
    ("name", "losses", "selected"), [("krum_torchjd_1_1", 5, 1), ("krum_torchjd_1_4_T8", 8, 4)]
)
def test_weights_and_gradients_follow_torchjd(name, losses, selected):
    golden = load(name)
    options = {"n_byzantine": 1, "n_selected": selected, "distance": "euclidean"}
    follow_weights(golden, Krum(losses, **options))
    follow_gradient(golden, Krum(losses, **options))
    follow_live(golden, Krum(losses, **options))


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_selection_equals_sorted_distances_between_vectors(distance):
    for seed in range(30):
        rows = independent(7, 5, seed)
        power = 2 if distance == "squared" else 1
        scores = torch.cdist(rows, rows).pow(power).sort(dim=1).values[:, 1:4].sum(1)
        balancer = Krum(7, n_byzantine=2, n_selected=2, distance=distance)
        weights = balancer.weigh(torch.ones(7).double(), Gradients(rows))
        assert set(weights.nonzero().flatten().tolist()) == set(scores.argsort()[:2].tolist())


def test_the_two_distances_may_choose_differently():
    rows = torch.tensor([[0.0], [3.0], [-3.0], [100.0], [105.9], [100.05], [300.0]])
    chosen = {
        distance: Krum(7, n_byzantine=3, distance=distance)
        .weigh(torch.ones(7), Gradients(rows))
        .argmax()
        .item()
        for distance in ("squared", "euclidean")
    }
    assert chosen == {"squared": 0, "euclidean": 5}


def test_mutual_nearest_neighbours_are_told_apart_by_the_distances_to_all():
    rows = torch.tensor([[0.0], [1.0], [5.0]])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        weights = Krum(3).weigh(torch.ones(3), Gradients(rows[order]))
        assert order[weights.argmax()] == 1


@pytest.mark.parametrize("losses", [1, 2])
def test_one_or_two_losses_select_one(losses):
    weights = Krum(losses).weigh(torch.ones(losses), Gradients(torch.randn(losses, 3)))
    assert weights.sum() == 1


@pytest.mark.parametrize("options", [{"n_byzantine": 2}, {"n_selected": 5}, {"distance": "l1"}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` is"):
        Krum(4, **options)


def test_a_losses_own_parameters_get_its_plain_gradient():
    model, x = MultiHead(4), batch()
    heads = list(model.heads.parameters())
    plain = jacobian(model(x), heads).sum(0)
    Krum(4).backward(model(x))
    torch.testing.assert_close(flat_grad(heads), plain)
