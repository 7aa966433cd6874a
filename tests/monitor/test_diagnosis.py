"""What `Diagnosis` takes, what it leaves alone, what it says of hostile losses."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping
from io import StringIO

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from torch import Tensor, nn

import equipoise as eq
from tests.models import compile_trunk, fresh_compiler

BATCHES = [
    torch.randn(16, 4, generator=torch.Generator().manual_seed(seed)) + 0.5 for seed in range(10)
]


class Model(nn.Module):
    """Two regression heads that start alike, so that their gradients agree."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.1))
        self.near, self.far = nn.Linear(6, 1), nn.Linear(6, 1)
        self.far.load_state_dict(self.near.state_dict())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.trunk(x)
        target = 3 + x.sum(dim=1, keepdim=True)
        heads = {"near": self.near, "far": self.far}
        return {name: (head(hidden) - target).square().mean() for name, head in heads.items()}


def observed(change=lambda losses, _: losses, names=("near", "far"), batches=10, **options):
    """The diagnosis of the model's losses, changed in each batch."""
    model, diagnosis = Model(), eq.Diagnosis(names, **options)
    for number, x in enumerate(BATCHES[:batches]):
        diagnosis.observe(change(model(x), number))
    return diagnosis


def finding(diagnosis: eq.Diagnosis, name: str):
    return next(loss for loss in diagnosis.findings.losses if loss.name == name)


def train(observing: bool) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(1)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    diagnosis = eq.Diagnosis(["near", "far"])
    for x in BATCHES:
        losses = model(x)
        optimizer.zero_grad()
        if observing:
            diagnosis.observe(losses)
            assert all(parameter.grad is None for parameter in model.parameters())
            _ = diagnosis.verdict
        sum(losses.values()).backward()
        optimizer.step()
    return [*model.state_dict().values()], torch.get_rng_state()


def test_a_training_is_bit_identical_with_and_without_it():
    (with_it, rng), (without, plain_rng) = train(observing=True), train(observing=False)
    assert all(map(torch.equal, with_it, without))
    assert torch.equal(rng, plain_rng)


def test_grad_that_is_there_stays():
    model = Model()
    sum(model(BATCHES[0]).values()).backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    grads = [parameter.grad for parameter in model.parameters()]
    eq.diagnose(model, BATCHES)
    assert all(parameter.grad is g for parameter, g in zip(model.parameters(), grads, strict=True))
    assert all(map(torch.equal, before, grads))


def test_one_call_and_a_loop_find_the_same():
    assert eq.diagnose(Model(), BATCHES).to_dict() == observed().to_dict()


def test_shares_and_norms_are_those_of_the_gradients():
    model, x = Model().eval(), BATCHES[0]
    diagnosis = eq.Diagnosis(["near", "far"], wrt=model.trunk[0].weight)
    for _ in range(3):
        losses = model(x)
        diagnosis.observe({"near": losses["near"], "far": 3 * losses["far"]})
    near, far = diagnosis.findings.losses
    (gradient,) = torch.autograd.grad(model(x)["near"], [model.trunk[0].weight])
    assert near.norm == pytest.approx(float(gradient.norm()), rel=1e-6)
    assert (near.share, far.share) == pytest.approx((0.25, 0.75))
    assert (near.adam_share, far.adam_share) == pytest.approx((0.25, 0.75))
    (pair,) = diagnosis.findings.pairs
    assert pair.mean_cosine.value == pytest.approx(1, abs=1e-6)
    assert pair.magnitude_similarity == pytest.approx(2 * 3 / 10)
    assert diagnosis.findings.norm_ratio == pytest.approx(3, rel=1e-6)
    assert diagnosis.findings.alignment == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("form", ["sequence", "vector"])
def test_losses_are_taken_in_every_form(form):
    def change(losses, _):
        values = list(losses.values())
        return values if form == "sequence" else torch.stack(values)

    assert observed(change, names=2).verdict == observed().verdict


@pytest.mark.parametrize("wrt", ["last_shared", "module", "parameters"])
def test_other_parameters_can_be_watched(wrt):
    model = Model()
    chosen = {"module": model.trunk, "parameters": model.trunk.parameters()}
    assert eq.diagnose(model, BATCHES, wrt=chosen.get(wrt, wrt)).verdict == "fine"


def test_under_autocast_the_verdict_is_the_same():
    model = Model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outside = eq.diagnose(model, BATCHES[:5])
    assert outside.verdict == "fine"


def test_a_cache_of_cast_weights_may_change_their_order():
    model = Model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(BATCHES[0])
        diagnosis = eq.Diagnosis(["near", "far"], wrt="shared")
        for x in BATCHES:
            diagnosis.observe(model(x))
    assert diagnosis.findings.pairs[0].mean_cosine.value > 0.99


@pytest.mark.filterwarnings("ignore:.*measured through a compiled function:UserWarning")
def test_a_compiled_trunk_is_diagnosed():
    with fresh_compiler():
        model = Model().eval()
        compile_trunk(model)
        diagnosis = eq.Diagnosis(["near", "far"])
        for x in BATCHES[:3]:
            losses = model(x)
            diagnosis.observe(losses)
            sum(losses.values()).backward()
        assert diagnosis.verdict == "fine"


def test_complex_parameters_count_by_both_parts():
    weight = torch.randn(4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    weight.requires_grad_()

    def losses_of(x: Tensor) -> Mapping[str, Tensor]:
        near = ((x + 0j) @ weight - 50).abs().square().mean()
        return {"near": near, "far": 100 * near}

    diagnosis = eq.diagnose(losses_of, BATCHES)
    assert diagnosis.verdict == "scale"
    assert diagnosis.findings.norm_ratio == pytest.approx(100, rel=1e-4)


def test_losses_without_a_graph_are_counted_and_left_out():
    diagnosis = observed(
        lambda losses, _: {**losses, "idle": torch.tensor(1.0)}, ("near", "far", "idle")
    )
    assert diagnosis.verdict == "fine"
    assert finding(diagnosis, "idle").graphless == 10
    assert "'idle' had no graph in 10 of 10 batches" in str(diagnosis)


def test_a_model_that_wants_its_batch_taken_apart_is_told_what_to_write():
    class Apart(Model):
        def forward(self, x: Tensor, _: Tensor) -> Mapping[str, Tensor]:
            return super().forward(x)

    with pytest.raises(TypeError, match=r"lambda batch: model\(\*batch\)"):
        eq.diagnose(Apart(), [(batch, batch) for batch in BATCHES])


def test_no_graph_at_all_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="No loss has a graph"):
        observed(lambda losses, _: {name: loss.detach() for name, loss in losses.items()})
    with torch.no_grad(), pytest.raises(ValueError, match="No loss has a graph"):
        observed()


def test_a_loss_that_is_not_finite_is_counted_and_left_out():
    def change(losses, number):
        return {**losses, "far": losses["far"] * (float("nan") if number % 3 == 0 else 1)}

    diagnosis = observed(change)
    assert diagnosis.verdict == "fine"
    assert (finding(diagnosis, "far").nonfinite, finding(diagnosis, "far").batches) == (4, 6)
    assert "'far' was not finite in 4 of 10 batches" in str(diagnosis)


def test_a_gradient_that_is_not_finite_is_counted_and_left_out():
    model = Model()

    def losses_of(x: Tensor) -> Mapping[str, Tensor]:
        losses = model(x)
        root = (model.trunk[0].weight[0, 0] * 0).abs().sqrt()  # zero, with an infinite slope
        return {**losses, "far": losses["far"] + root}

    diagnosis = eq.diagnose(losses_of, BATCHES)
    assert finding(diagnosis, "far").nonfinite == 10
    assert finding(diagnosis, "near").batches == 10


def test_absent_losses_are_judged_by_the_batches_that_have_them():
    def change(losses, number):
        return {"near": losses["near"], "far": losses["far"] if number % 2 else None}

    diagnosis = observed(change)
    assert diagnosis.verdict == "fine"
    assert finding(diagnosis, "far").batches == 5
    assert "'far' was not measured in 5 of 10 batches" in str(diagnosis)


def test_losses_that_never_meet_cannot_be_compared():
    def change(losses, number):
        name = ("near", "far")[number % 2]
        return {name: losses[name]}

    diagnosis = observed(change)
    assert diagnosis.verdict == "noise"
    assert "No batch had two losses" in diagnosis.sentence
    assert diagnosis.advice == ()


def test_a_zero_loss_is_named_and_not_judged():
    diagnosis = observed(
        lambda losses, _: {**losses, "idle": losses["far"] * 0}, ("near", "far", "idle")
    )
    assert diagnosis.verdict == "fine"
    assert "'idle' has a zero gradient in every batch" in str(diagnosis)


def test_all_zero_gradients_say_so():
    diagnosis = observed(lambda losses, _: {name: loss * 0 for name, loss in losses.items()})
    assert diagnosis.verdict == "noise"
    assert "Every gradient is zero" in diagnosis.sentence
    assert diagnosis.advice == ()


def test_nothing_shared_keeps_the_plain_sum_and_says_why():
    one, other = nn.Linear(4, 1), nn.Linear(4, 1)
    diagnosis = eq.diagnose(lambda x: {"a": one(x).mean(), "b": other(x).mean()}, BATCHES)
    assert diagnosis.verdict == "fine"
    assert "The losses share nothing" in diagnosis.sentence
    assert [advice.method for advice in diagnosis.advice] == ["Equal"]
    assert "'a' shares nothing that is watched, in 10 of 10 batches" in str(diagnosis)


def test_only_losses_that_meet_are_held_against_each_other():
    towers = [Model(), Model()]

    def losses_of(x: Tensor) -> Mapping[str, Tensor]:
        (a, b), (c, d) = (tower(x).values() for tower in towers)
        return {"a": a, "b": b, "c": 1000 * c, "d": 1000 * d}

    diagnosis = eq.diagnose(losses_of, BATCHES)
    assert [(pair.first, pair.second) for pair in diagnosis.findings.pairs] == [
        ("a", "b"),
        ("c", "d"),
    ]
    assert diagnosis.verdict == "fine"
    assert diagnosis.findings.norm_ratio < 2


def test_one_of_three_that_shares_nothing_is_named():
    own = nn.Linear(4, 1)
    diagnosis = eq.Diagnosis(["near", "far", "own"])
    model = Model()
    for x in BATCHES:
        diagnosis.observe({**model(x), "own": own(x).mean()})
    assert diagnosis.verdict == "fine"
    assert finding(diagnosis, "own").apart == 10


def test_negative_losses_are_named_and_spared_what_needs_positive_ones():
    diagnosis = observed(lambda losses, _: {**losses, "far": 100 * losses["far"] - 1e6})
    assert diagnosis.verdict == "scale"
    assert "'far' is negative in 10 of 10 batches" in str(diagnosis)
    assert [advice.method for advice in diagnosis.advice] == ["MTAdam"]


@pytest.mark.parametrize("batches", [1, 2])
def test_too_few_batches_have_no_verdict(batches):
    diagnosis = observed(batches=batches)
    assert diagnosis.verdict == "noise"
    assert diagnosis.batches_needed == 10
    assert "so few batches" in str(diagnosis)


def test_batches_that_run_out_are_enough_if_there_are_some():
    assert eq.diagnose(Model(), iter(BATCHES[:5]), count=50).batches == 5
    with pytest.raises(ValueError, match="`batches` gave no batch"):
        eq.diagnose(Model(), [])


def test_no_more_batches_are_taken_than_asked_for():
    stream = iter(BATCHES)
    eq.diagnose(Model(), stream, count=4)
    assert len(list(stream)) == 6


def test_noise_says_how_many_batches_would_do():
    weight = torch.zeros(50, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    signal = torch.full((50,), 0.05)

    def losses_of(noise: Tensor) -> Mapping[str, Tensor]:
        return {"a": (signal + noise[0]) @ weight + 1, "b": (signal + noise[1]) @ weight + 1}

    batches = [torch.randn(2, 50, generator=generator) for _ in range(2000)]
    few = eq.diagnose(losses_of, batches, count=10)
    assert few.verdict == "noise"
    assert few.batches_needed > 10
    assert eq.diagnose(losses_of, batches, count=2000).verdict == "fine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 1.0}, "`scale` is a ratio of norms, above 1; got 1.0"),
        ({"conflict": 0.5}, "`conflict` is a cosine"),
        ({"noise": 0.0}, "`noise` is a ratio"),
        ({"confidence": 95.0}, "`confidence` is a probability"),
        ({"wrt": "representation"}, "Write 'shared' or 'last_shared'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        eq.Diagnosis(["a", "b"], **options)


def test_thresholds_are_arguments():
    def change(losses, _):
        return {**losses, "far": 5 * losses["far"]}

    assert observed(change).verdict == "fine"
    assert observed(change, scale=3.0).verdict == "scale"


def test_one_loss_has_nothing_to_be_balanced_with():
    with pytest.raises(ValueError, match="`names` has one loss, 'near'"):
        eq.Diagnosis(["near"])


def test_a_tensor_of_one_graph_is_no_place_to_watch():
    model = Model()
    hidden = model.trunk(BATCHES[0])
    diagnosis = eq.Diagnosis(["a", "b"], hidden)
    with pytest.raises(ValueError, match="name parameters"):
        diagnosis.observe({"a": model.near(hidden).mean(), "b": model.far(hidden).mean()})


def test_before_the_first_batch_it_prints_and_has_no_verdict():
    diagnosis = eq.Diagnosis(["near", "far"])
    assert "0 batches observed" in str(diagnosis)
    assert "0 batches observed" in diagnosis._repr_html_()
    with pytest.raises(RuntimeError, match="Nothing was observed yet"):
        _ = diagnosis.verdict


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_scales_at_the_ends_of_single_precision_are_told(factor):
    diagnosis = observed(lambda losses, _: {**losses, "far": factor * losses["far"]})
    assert diagnosis.verdict == "scale"
    assert diagnosis.findings.norm_ratio == pytest.approx(1e30, rel=0.5)


def test_it_is_ready_for_json_and_notebooks():
    diagnosis = observed(names=["near", "far"])
    found = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert found["verdict"] == diagnosis.verdict
    assert found["advice"][0]["method"] == "Equal"
    assert found["thresholds"]["scale"] == 10
    names = ["<b>", "far"]
    html = observed(lambda losses, _: list(losses.values()), names)._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_the_picture_shows_norms_shares_and_cosines():
    figure = observed().plot()
    kinds = [trace.type for trace in figure.data]
    assert kinds == ["bar", "bar", "bar", "heatmap"]
    assert [list(trace.y) for trace in figure.data] == [["near", "far"]] * 4
    assert figure.data[3].z[0][1] > 0.9


def test_without_plotly_the_picture_says_what_to_install(monkeypatch):
    diagnosis = observed()
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match="equipoise\\[compare\\]"):
        diagnosis.plot()


def test_rich_shows_what_print_does():
    diagnosis = observed()
    console = Console(width=200, file=StringIO())
    console.print(diagnosis)
    assert diagnosis.sentence in console.file.getvalue()


def test_names_of_wide_characters_keep_the_columns_of_the_table_in_line():
    names = ["再構成", "e\u0301"]
    diagnosis = observed(lambda losses, _: dict(zip(names, losses.values(), strict=True)), names)
    head, *rows = str(diagnosis).split("\n\n")[0].splitlines()
    assert {cell_len(row) for row in rows} == {cell_len(head)}


def test_a_copy_goes_on_by_itself_with_the_same_parameters():
    model, diagnosis = Model(), eq.Diagnosis(["near", "far"])
    for x in BATCHES[:9]:
        diagnosis.observe(model(x))
    again = copy.deepcopy(diagnosis)
    losses = model(BATCHES[9])
    again.observe(losses)
    assert diagnosis.batches == 9
    diagnosis.observe(losses)
    assert again.to_dict() == diagnosis.to_dict()
