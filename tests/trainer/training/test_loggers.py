"""Experiment trackers: MLflow on a local database and store, Weights & Biases offline."""

import json
import shutil
import struct
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from wandb.proto import wandb_internal_pb2

from trainer.config.loading import parse_config
from trainer.config.settings import Config, dump_config, flat_settings
from trainer.errors import BabelrecError
from trainer.runs import Run
from trainer.training.loggers import EpochLogger, log_files, open_loggers


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: creating its tables takes longer than everything else here."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(database, tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    # MLflow keeps artifacts below the working directory by default.
    monkeypatch.chdir(tmp_path)


def _new_run(tmp_path: Path, *loggers: str) -> Run:
    config: Config = parse_config({"name": "space", "training": {"loggers": list(loggers)}}, "test")
    return Run.create(tmp_path / "run", config)


def test_mlflow_keeps_settings_metrics_and_files_in_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _new_run(tmp_path, "mlflow")
    with open_loggers(run) as loggers:
        callback = EpochLogger(loggers, "select")
        callback.on_epoch_end(0, {"loss": 2.0, "val_recall@10": 0.1})
        identity = json.loads((run.path / "loggers.json").read_text())["mlflow"]["run_id"]
        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        assert client.get_run(identity).info.status == "RUNNING"
    # A later process, without environment variables and started elsewhere, continues the same record.
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with open_loggers(run) as loggers:
        EpochLogger(loggers, "select").on_epoch_end(1, {"loss": 1.0, "val_recall@10": 0.2})
    monkeypatch.chdir(tmp_path)
    file = run.path / "evaluation.json"
    file.write_text('{"한국어": 1}', encoding="utf-8")
    log_files(run, [file], {"evaluation/ndcg@10": 0.3})

    record = client.get_run(identity)
    assert record.info.status == "FINISHED"
    assert record.info.run_name == "space"
    assert record.data.params == {name: str(value) for name, value in flat_settings(run.config).items()}
    assert record.data.metrics["evaluation/ndcg_at_10"] == 0.3
    history = client.get_metric_history(identity, "select/val_recall_at_10")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2)]
    assert [artifact.path for artifact in client.list_artifacts(identity)] == ["evaluation.json"]
    downloaded = Path(client.download_artifacts(identity, "evaluation.json", str(tmp_path)))
    assert downloaded.read_text(encoding="utf-8") == '{"한국어": 1}'
    assert len(client.search_runs(["1"])) == 1


def test_mlflow_records_failures_and_starts_over_if_the_record_is_missing(tmp_path: Path) -> None:
    run = _new_run(tmp_path, "mlflow")
    with pytest.raises(RuntimeError, match="out of memory"), open_loggers(run):
        raise RuntimeError("out of memory")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    first = json.loads((run.path / "loggers.json").read_text())["mlflow"]["run_id"]
    assert client.get_run(first).info.status == "FAILED"
    run.write("loggers.json", {"mlflow": {"run_id": "0" * 32, "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}})
    with open_loggers(run):
        second = json.loads((run.path / "loggers.json").read_text())["mlflow"]["run_id"]
    assert client.get_run(second).info.status == "FINISHED"
    assert second not in (first, "0" * 32)


def test_a_store_that_cannot_be_used_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/no/such/folder/mlflow.db")
    with pytest.raises(BabelrecError, match=r"MLflow's store .* can't be used.*MLFLOW_TRACKING_URI"):
        open_loggers(_new_run(tmp_path, "mlflow"))


def test_wandb_writes_settings_metrics_and_files_offline(tmp_path: Path) -> None:
    run = _new_run(tmp_path, "wandb")
    file = run.path / "evaluation.json"
    file.write_text("{}", encoding="utf-8")
    with open_loggers(run) as loggers:
        for epoch in range(2):
            EpochLogger(loggers, "select").on_epoch_end(epoch, {"val_recall@10": 0.1 * (epoch + 1)})
        loggers.artifacts([file])
    log_files(run, [file], {"evaluation/ndcg@10": 0.3})
    identity = json.loads((run.path / "loggers.json").read_text())["wandb"]["id"]
    files = sorted((run.path / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
    records = [record for each in files for record in _finished(each)]
    assert len(files) == 2, "each process writes a part; `wandb sync` puts them together by their id"
    history = [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    logged = [(row["epoch"], row["select/val_recall@10"]) for row in history if "select/val_recall@10" in row]
    assert logged == [(1, 0.1), (2, 0.2)]
    assert [row["evaluation/ndcg@10"] for row in history if "evaluation/ndcg@10" in row] == [0.3]
    begun = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    settings = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert settings["model.dimension"] == run.config.model.dimension
    artifacts = [record.request.log_artifact.artifact for record in records if record.request.HasField("log_artifact")]
    names = {artifact.name for artifact in artifacts} | {
        record.artifact.name for record in records if record.WhichOneof("record_type") == "artifact"
    }
    assert f"{identity}-evaluation.json" in names


def _finished(path: Path) -> list[wandb_internal_pb2.Record]:
    """The records of a file once the last one has been written: W&B's own process may write it after `finish`."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        records = _records(path)
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end after 60 s")


def _records(path: Path) -> list[wandb_internal_pb2.Record]:
    """Reads a W&B file: seven bytes of heading, then LevelDB's log format (blocks of 32 KiB, records in fragments)."""
    data, place, fragments, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if 32_768 - place % 32_768 < 7:
            place += 32_768 - place % 32_768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        fragments += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            found.append(wandb_internal_pb2.Record.FromString(fragments))
            fragments = b""
    return found


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_named_with_its_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BabelrecError, match=rf"pip install 'babelrec\[{name}\]'"):
        open_loggers(_new_run(tmp_path, name))


def test_a_tracker_that_fails_later_does_not_end_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = _new_run(tmp_path, "mlflow")
    with open_loggers(run) as loggers:
        identity = json.loads((run.path / "loggers.json").read_text())["mlflow"]["run_id"]
        MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").delete_run(identity)
        loggers.metrics({"loss": 1.0}, 1)
        loggers.metrics({"loss": 1.0}, 2)
    assert caplog.text.count("MlflowLogger is disabled from now on") == 1


def test_no_tracker_by_default_and_they_may_change_in_a_run(tmp_path: Path) -> None:
    run = _new_run(tmp_path)
    with open_loggers(run) as loggers:
        loggers.metrics({"loss": 1.0}, 1)
    assert not (run.path / "loggers.json").exists()
    again = Run.create(run.path, parse_config({"name": "space", "training": {"loggers": ["mlflow"]}}, "test"))
    assert (again.path / "config.yaml").read_text() == dump_config(again.config)
