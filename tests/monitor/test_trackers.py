"""Each tracker is the real one, and read back with its own reader."""

from __future__ import annotations

import csv
import importlib
import warnings
from pathlib import Path

import pytest

import equipoise as eq

NAMES = ["near", "L~1", "größe/x"]
STEPS = [0, 2, 4]


@pytest.fixture
def tracked(train):
    """Trains with a tracker; what was kept, by name."""

    def run(tracker) -> dict[str, list[float]]:
        balancer = eq.GradNorm(NAMES)
        recorder = eq.Recorder(balancer, every=2, measure=2).track(tracker)
        train(balancer, 6, lambda _, losses: list(losses.values()))
        frame = recorder.frame()
        assert {"weight/L_1", "cosine/near:größe/x", "total"} <= set(frame)
        assert list(frame.index) == STEPS
        return {name: frame[name].tolist() for name in frame}

    return run


def assert_same(found: dict[str, list[float]], kept: dict[str, list[float]]) -> None:
    assert set(found) == set(kept)
    for name, numbers in kept.items():
        assert found[name] == pytest.approx(numbers, rel=1e-6), name


def scalars(folder: Path) -> dict[str, list[float]]:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = events.EventAccumulator(str(folder))
    read.Reload()
    tags = read.Tags()["scalars"]
    assert all([event.step for event in read.Scalars(tag)] == STEPS for tag in tags)
    return {tag: [event.value for event in read.Scalars(tag)] for tag in tags}


def test_tensorboard(tracked, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    tensorboard = importlib.import_module("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        kept = tracked(writer)
    assert_same(scalars(tmp_path), kept)


def test_weights_and_biases_offline(tracked, tmp_path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    quiet = wandb.Settings(console="off", silent=True)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # wandb's own affair
        run = wandb.init(mode="offline", dir=tmp_path, project="p", settings=quiet)
        kept = tracked(run)
        run.finish()
        found = history_of_wandb(next(tmp_path.glob("wandb/offline-run-*/*.wandb")))
        wandb.teardown()
    assert found.pop("_step") == STEPS
    assert_same({name: found[name] for name in found if name[0] != "_"}, kept)


def history_of_wandb(file: Path) -> dict[str, list[float]]:
    store = importlib.import_module("wandb.sdk.internal.datastore").DataStore()
    proto = importlib.import_module("wandb.proto.wandb_internal_pb2")
    found: dict[str, list[float]] = {}
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        record = proto.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            name = item.key or ".".join(item.nested_key)
            found.setdefault(name, []).append(float(item.value_json))
    store.close()
    return found


def test_mlflow_in_a_folder(tracked, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # mlflow's own affair
        mlflow = pytest.importorskip("mlflow")
        mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
        with mlflow.start_run() as run:
            kept = tracked(mlflow)
        client, identity = mlflow.MlflowClient(), run.info.run_id
        names = client.get_run(identity).data.metrics
        histories = {name: client.get_metric_history(identity, name) for name in names}
    assert all([m.step for m in history] == STEPS for history in histories.values())
    assert_same({name: [m.value for m in found] for name, found in histories.items()}, kept)


def test_a_logger_of_lightning(tracked, tmp_path) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.CSVLogger(tmp_path)
    kept = tracked(logger)
    logger.save()
    with (Path(logger.log_dir) / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row.pop("step")) for row in rows] == STEPS
    assert_same({name: [float(row[name]) for row in rows] for name in rows[0]}, kept)


def test_fabric(tracked, tmp_path) -> None:
    fabric = pytest.importorskip("lightning.fabric")
    loggers = importlib.import_module("lightning.fabric.loggers")
    logger = loggers.CSVLogger(tmp_path)
    kept = tracked(fabric.Fabric(accelerator="cpu", loggers=[logger]))
    logger.save()
    with (Path(logger.log_dir) / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert_same({n: [float(r[n]) for r in rows] for n in rows[0] if n != "step"}, kept)


def test_accelerate(tracked, tmp_path) -> None:
    accelerate = pytest.importorskip("accelerate")
    pytest.importorskip("tensorboard")
    accelerator = accelerate.Accelerator(log_with="tensorboard", project_dir=tmp_path, cpu=True)
    accelerator.init_trackers("training")
    kept = tracked(accelerator)
    accelerator.end_training()
    assert_same(scalars(tmp_path / "training"), kept)


def test_any_function(tracked) -> None:
    seen = []
    kept = tracked(lambda numbers, step: seen.append((numbers, step)))
    assert [step for _, step in seen] == STEPS
    assert_same({name: [numbers[name] for numbers, _ in seen] for name in kept}, kept)


def test_a_tracker_that_fails_stops_nothing_and_is_told_once(balancer, train) -> None:
    attempts = []

    def fail(_: dict, step: int) -> None:
        attempts.append(step)
        raise ConnectionError("the server is gone")

    recorder = eq.Recorder(balancer, every=1).track(fail)
    with pytest.warns(UserWarning, match="the server is gone") as told:
        train(balancer, 12)
    assert len(told) == 1
    assert attempts == [0, 2, 5, 10]  # pauses that double
    assert len(recorder.history().entries) == 12


def test_a_tracker_that_recovers_is_told_each_step_again(balancer, train) -> None:
    seen = []

    def fail_first(_: dict, step: int) -> None:
        seen.append(step)
        if step == 0:
            raise OSError

    eq.Recorder(balancer, every=1).track(fail_first)
    with pytest.warns(UserWarning, match="OSError"):
        train(balancer, 5)
    assert seen == [0, 2, 3, 4]


def test_what_takes_no_numbers_is_refused(balancer) -> None:
    with pytest.raises(TypeError, match="`tracker` is 3, which takes no numbers"):
        eq.Recorder(balancer).track(3)
