from __future__ import annotations

import builtins
import copy
import pickle
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import equipoise as eq
from equipoise.monitor.history import RecordError, read_history
from tests.methods import NAMES, make
from tests.models import MultiHead, batch, compile_trunk, fresh_compiler
from tests.parallel.ranks import together

LOSSES = ["near", "far", "sky"]


def test_a_recorder_keeps_every_kth_step_and_measures_some(balancer, train, tmp_path) -> None:
    balancer = eq.Uncertainty(LOSSES)
    eq.Recorder(balancer, tmp_path, every=3, measure=4)
    train(balancer, 10)
    history = read_history(tmp_path)
    assert [entry.step for entry in history.entries] == [0, 3, 4, 6, 8, 9]
    assert [entry.step for entry in history.entries if entry.measured] == [0, 4, 8]
    assert all((entry.cosines is not None) == entry.measured for entry in history.entries)
    assert history.names == tuple(LOSSES)
    assert history.header["method"] == "Uncertainty"
    assert history.header["versions"]["torch"] == torch.__version__


def test_what_is_measured_is_what_measure_finds() -> None:
    torch.manual_seed(0)
    balancer, losses = eq.Equal(3), MultiHead(3)(batch())
    expected = eq.measure(losses)
    recorder = eq.Recorder(balancer, measure=1)
    balancer.backward(losses)
    (entry,) = recorder.history().entries
    assert entry.norms == pytest.approx(expected.norms().tolist())
    rows, columns = torch.triu_indices(3, 3, offset=1)
    assert entry.cosines == pytest.approx(expected.cosines()[rows, columns].tolist())


def test_shares_are_those_of_the_applied_gradients_whoever_measured() -> None:
    priorities = {"0": 1.0, "1": 4.0, "2": 0.5}
    found = []
    for kind, options in ((eq.Equal, {}), (eq.GradNorm, {"wrt": "shared"})):
        torch.manual_seed(0)
        balancer = kind(3, priorities=priorities, **options)
        losses = MultiHead(3)(batch())
        norms = eq.measure(losses).norms()
        recorder = eq.Recorder(balancer, measure=1 if kind is eq.Equal else 0)
        balancer.backward(losses)
        lengths = balancer.last.weights.abs() * norms
        (entry,) = recorder.history().entries
        assert entry.shares() == pytest.approx((lengths / lengths.sum()).tolist())
        found.append(entry.measured)
    assert found == [True, False]


def test_a_method_that_looks_itself_is_not_measured_again(train, tmp_path) -> None:
    balancer = eq.UPGrad(LOSSES)
    eq.Recorder(balancer, tmp_path, every=1, measure=1)
    train(balancer, 3)
    entries = read_history(tmp_path).entries
    assert not any(entry.measured for entry in entries)
    assert all(entry.cosines is not None for entry in entries)


WRAPPED = {
    "primary": lambda: eq.Primary(eq.Equal(3), "1"),
    "shares": lambda: eq.Shares(eq.GradNorm(3), [1.0, 2.0, 3.0]),
    "behind": lambda: eq.Behind(eq.UPGrad(3)),
}


def parts_of(name: str, model) -> tuple:
    if name == "plain":
        return eq.Equal(3), torch.optim.Adam(model.parameters(), lr=0.01)
    if name in eq.list_optimizers():
        optimizer = eq.create_optimizer(name, model.parameters(), lr=0.01, losses=3)
        return optimizer, optimizer
    balancer = WRAPPED[name]() if name in WRAPPED else make(name)
    return balancer, torch.optim.Adam(model.parameters(), lr=0.01)


def trained(name: str, folder=None, **options) -> list[torch.Tensor]:
    """Everything that a training leaves: parameters, gradients, states, generators."""
    torch.manual_seed(0)
    model = MultiHead(3)
    model.trunk.insert(2, torch.nn.Dropout(0.3))
    balancer, optimizer = parts_of(name, model)
    recorder = eq.Recorder(balancer, folder, **options) if options else None
    for step in range(6):
        optimizer.zero_grad()
        losses = model(batch())
        if step == 3:
            losses[0] = losses[0] * torch.nan
        balancer.backward(dict(zip(balancer.names, losses, strict=True)))
        if step != 3:
            optimizer.step()
    assert recorder is None or len(recorder.history().entries) == 6
    state = [v for v in balancer.state_dict().values() if isinstance(v, torch.Tensor)]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [*model.parameters(), *grads, *state, torch.get_rng_state()]


@pytest.mark.parametrize("name", ["plain", *WRAPPED, *eq.list_optimizers(), *NAMES])
def test_nothing_of_the_training_changes_bit_for_bit(name, tmp_path) -> None:
    plain = trained(name)
    recorded = trained(name, tmp_path, every=1, measure=1)
    assert len(plain) == len(recorded)
    for one, other in zip(plain, recorded, strict=True):
        assert torch.equal(one.double().nan_to_num(7e7), other.double().nan_to_num(7e7))


class Operations(TorchDispatchMode):
    """Writes down every operation, those that read a number among them."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.called.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["plain", "mtadam", "gradnorm", "upgrad"])
def test_steps_that_are_not_kept_read_and_compute_nothing(name) -> None:
    called = []
    for recorded in (False, True):
        torch.manual_seed(0)
        model = MultiHead(3)
        balancer, optimizer = parts_of(name, model)
        recorder = eq.Recorder(balancer, every=4, measure=4) if recorded else None
        for step in range(4):
            optimizer.zero_grad()
            losses = dict(zip(balancer.names, model(batch()), strict=True))
            with Operations() if step else nullcontext() as mode:
                balancer.backward(losses)
            optimizer.step()
            called.append((recorded, step, [] if mode is None else mode.called))
        assert recorder is None or len(recorder.history().entries) == 1
    plain, with_recorder = ([ops for r, _, ops in called if r is which] for which in (False, True))
    assert plain == with_recorder
    assert all(plain[1:])


def test_skipped_steps_priorities_and_absent_losses_are_kept(train) -> None:
    balancer = eq.GradNorm(LOSSES, priorities={"far": eq.Ramp(0.5, 1.0, steps=4)})
    recorder = eq.Recorder(balancer, every=1)

    def spoil(step, losses):
        if step == 1:
            losses["near"] = losses["near"] * torch.nan
        if step == 2:
            del losses["sky"]
        return losses

    train(balancer, 4, spoil)
    entries = recorder.history().entries
    assert [entry.step for entry in entries] == [0, 1, 2, 3]
    assert [entry.skipped[0] for entry in entries] == [0.0, 1.0, 1.0, 1.0]
    assert entries[2].present == [0, 1]
    assert [entry.priorities[1] for entry in entries] == [0.5, 0.625, 0.625, 0.75]
    assert "loss/sky" not in entries[2].flat(tuple(LOSSES))


def test_the_priorities_of_what_a_wrapper_wraps_are_kept(train) -> None:
    balancer = eq.Primary(eq.Equal(LOSSES, priorities=[1.0, 2.0, 3.0]), "far")
    recorder = eq.Recorder(balancer)
    train(balancer, 1)
    history = recorder.history()
    assert history.entries[0].priorities == [1.0, 2.0, 3.0]
    assert history.header["method"] == "Primary(Equal)"
    assert history.header["options"]["primary"] == "far"


def test_an_optimizer_for_several_losses_is_recorded_with_its_names_from_the_first_step(
    tmp_path,
) -> None:
    model = MultiHead(3)
    optimizer = eq.MTAdam(model.parameters(), lr=0.01)
    eq.Recorder(optimizer, tmp_path, every=1, measure=2)
    for _ in range(3):
        optimizer.zero_grad()
        optimizer.backward(dict(zip(LOSSES, model(batch()), strict=True)))
        optimizer.step()
    history = read_history(tmp_path)
    assert history.names == tuple(LOSSES)
    assert history.header["options"]["lr"] == 0.01
    assert [entry.cosines is not None for entry in history.entries] == [True, False, True]
    assert all(entry.norms is not None for entry in history.entries)


def test_an_optimizer_with_other_losses_than_the_folder_is_refused_at_its_first_step(
    run_of,
) -> None:
    folder = run_of(steps=3)
    model = MultiHead(2)
    optimizer = eq.MTAdam(model.parameters(), lr=0.01)
    eq.Recorder(optimizer, folder)
    with pytest.raises(RecordError, match="the losses 'near', 'far', 'sky', and this one has '0'"):
        optimizer.backward(model(batch()))


def test_a_folder_with_other_losses_or_another_method_is_refused_and_left_alone(run_of) -> None:
    folder = run_of(steps=3)
    before = (folder / "record.jsonl").read_bytes()
    with pytest.raises(ValueError, match="the losses 'near', 'far', 'sky', and this one has 'a'"):
        eq.Recorder(eq.GradNorm(["a", "b"]), folder)
    with pytest.raises(ValueError, match="the method 'GradNorm', and this one has 'UPGrad'"):
        eq.Recorder(eq.UPGrad(LOSSES), folder)
    assert (folder / "record.jsonl").read_bytes() == before
    assert [file.name for file in folder.iterdir()] == ["record.jsonl"]


def test_a_folder_that_cannot_be_written_is_refused(balancer, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"`folder` is '.*file/below', where no record can be"):
        eq.Recorder(balancer, tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 0}, "`every` is 0"),
        ({"measure": -1}, "`measure` is -1"),
        ({"every": True}, "True"),
    ],
)
def test_numbers_of_steps_out_of_range_are_refused(balancer, options, said) -> None:
    with pytest.raises(ValueError, match=said):
        eq.Recorder(balancer, **options)


def test_what_leaves_no_records_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`balancer` is .*Linear"):
        eq.Recorder(torch.nn.Linear(1, 1))


def test_a_closed_recorder_keeps_nothing_and_leaves_no_hook(balancer, train) -> None:
    with eq.Recorder(balancer, every=1, measure=1) as recorder:
        train(balancer, 2)
    train(balancer, 2)
    assert len(recorder.history().entries) == 2
    assert not balancer._record_hooks._registered
    assert not balancer._record_pre_hooks._registered


def test_copies_of_the_balancer_keep_no_record(balancer, train, tmp_path) -> None:
    eq.Recorder(balancer, tmp_path, every=1, measure=2)
    train(balancer, 2)
    twins = [copy.deepcopy(balancer), pickle.loads(pickle.dumps(balancer))]  # noqa: S301
    averaged = torch.optim.swa_utils.AveragedModel(balancer)
    for twin in (*twins, averaged.module):
        train(twin, 3)
    assert [entry.step for entry in read_history(tmp_path).entries] == [0, 1]


def test_losses_that_share_nothing_are_told_once_and_stop_nothing() -> None:
    weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
    balancer = eq.Equal(["a", "b"])
    recorder = eq.Recorder(balancer, every=1, measure=1)
    with pytest.warns(UserWarning, match="could not be measured for the record"):
        balancer.backward({"a": weights[0].sum(), "b": weights[1].sum()})
    balancer.backward(
        {"a": weights[0].sum(), "b": weights[1].sum()}
    )  # a second one would be an error
    assert [entry.norms for entry in recorder.history().entries] == [None, None]


@pytest.mark.filterwarnings("ignore:.*measured through a compiled function:UserWarning")
def test_a_compiled_trunk_can_be_measured_at_later_steps_after_a_resumption() -> None:
    with fresh_compiler():
        torch.manual_seed(0)
        model = MultiHead(3)
        compile_trunk(model)
        balancer = eq.Equal(LOSSES)
        state = balancer.state_dict() | {"calls": torch.tensor(1)}
        balancer.load_state_dict(state)
        recorder = eq.Recorder(balancer, every=1, measure=3)
        for _ in range(4):
            balancer.backward(model(batch()))
        assert [entry.step for entry in recorder.history().entries if entry.measured] == [3]


def test_a_disk_that_is_full_is_told_once_and_mended_later(balancer, train, tmp_path) -> None:
    folder = tmp_path / "run"
    eq.Recorder(balancer, folder, every=1)
    train(balancer, 2)
    (folder / "record.jsonl").rename(folder / "elsewhere")
    (folder / "record.jsonl").mkdir()
    with pytest.warns(UserWarning, match="The training goes on") as told:
        train(balancer, 2)
    assert len(told) == 1
    (folder / "record.jsonl").rmdir()
    (folder / "elsewhere").rename(folder / "record.jsonl")
    train(balancer, 1)
    assert [entry.step for entry in read_history(folder).entries] == [0, 1, 4]


def test_frame_names_columns_as_report_does(balancer, train) -> None:
    pytest.importorskip("pandas")
    recorder = eq.Recorder(balancer, every=2)
    train(balancer, 3)
    frame = recorder.frame()
    assert list(frame.index) == [0, 2]
    assert frame.index.name == "step"
    for name, number in balancer.report().items():
        assert frame[name].iloc[-1] == pytest.approx(number), name


def test_frame_without_pandas_says_what_to_install(balancer, train, monkeypatch) -> None:
    recorder = eq.Recorder(balancer)
    train(balancer, 1)
    real = builtins.__import__

    def without(name, *rest):
        if name == "pandas":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        recorder.frame()


def test_before_the_first_step_there_is_nothing_to_show(balancer, tmp_path) -> None:
    for recorder in (eq.Recorder(balancer), eq.Recorder(balancer, tmp_path)):
        with pytest.raises(RecordError):
            recorder.history()


def on_rank(rank: int, _: int, folder: str, kind: str) -> dict[str, object]:
    torch.manual_seed(0)
    model = MultiHead(2)
    trained = torch.nn.parallel.DistributedDataParallel(model) if kind == "wrapped" else model
    balancer = eq.Equal(["a", "b"])
    recorder = eq.Recorder(balancer, f"{folder}/{kind}", every=1, measure=2)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(3):
        model.zero_grad()
        x = torch.randn(6, 4, dtype=torch.float64, generator=generator)
        balancer.backward(trained(x))
    first = rank == 0
    kept = recorder.history().entries if first else ()
    grads = torch.cat([p.grad.flatten() for p in model.parameters()])
    return {"kept": [(e.step, e.measured, e.norms) for e in kept], "grad": grads}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wrapped", "plain"])
def test_of_several_processes_the_first_writes_what_all_measured(kind, tmp_path) -> None:
    first, second = together(on_rank, 2, tmp_path, str(tmp_path), kind)
    assert torch.equal(first["grad"], second["grad"])
    assert [(step, measured) for step, measured, _ in first["kept"]] == [
        (0, True),
        (1, False),
        (2, True),
    ]
    assert not second["kept"]
    torch.manual_seed(0)
    model = MultiHead(2)
    generators = [torch.Generator().manual_seed(rank) for rank in range(2)]
    draws = [torch.randn(6, 4, dtype=torch.float64, generator=g) for g in generators]
    whole = eq.measure(model(torch.cat(draws))).norms()
    assert first["kept"][0][2] == pytest.approx(whole.tolist())


def test_recording_warns_of_nothing(run_of) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_of(steps=5)
