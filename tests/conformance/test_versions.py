"""The lifecycle of versions in a base path. Sources: architecture.md, serving_config.md, get_model_status.proto."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from tests.conformance.server import (
    IS_BABELREC,
    SECONDS,
    Server,
    State,
    Target,
    config_list,
    held,
    model_config,
    predict_request,
)

pytestmark = pytest.mark.own_server


class _Base:
    """A base path in which versions are added and removed."""

    def __init__(self, server: Server, path: Path, models: Path) -> None:
        self.server = server
        self.path = path
        self.name = path.name
        self._models = models

    def add(self, version: int, number: int | None = None, change: Callable[[Path], object] = lambda _: None) -> None:
        """Adds a version atomically, by renaming a hidden directory; it adds ``number`` to its input."""
        aside = self.path / f".{version}.tmp"
        shutil.copytree(self._models / "numbered" / str(number or version), aside)
        change(aside)
        aside.rename(self.path / str(version))

    def remove(self, version: int) -> None:
        aside = self.path / f".{version}.old"
        (self.path / str(version)).rename(aside)
        shutil.rmtree(aside)

    def answer(self) -> float:
        return float(self.server.predict(self.name, {"x": [0.0]})["y"][0])

    def wait_for(self, *available: int) -> None:
        self.server.wait_for_available(self.name, *available)


@pytest.fixture(scope="module")
def _server(models: Path) -> Iterator[Server]:
    config = config_list(model_config("two", models / "half_plus_two"))
    with Server("--max_num_load_retries=0", "--file_system_poll_wait_seconds=1", config=config) as server:
        yield server.wait_until_ready()


@pytest.fixture
def base(_server: Server, models: Path, tmp_path: Path, request: pytest.FixtureRequest) -> _Base:
    """A model with version 1, named after the test."""
    # TensorFlow treats brackets in the path of a checkpoint as a pattern.
    path = tmp_path / request.node.name.replace("[", "_").replace("]", "")
    path.mkdir()
    made = _Base(_server, path, models)
    made.add(1)
    _server.reload(config_list(model_config(path.name, path)))
    assert made.answer() == 1
    return made


def test_new_version_and_rollback(base: _Base) -> None:
    base.add(2)
    base.wait_for(2)
    assert base.answer() == 2
    assert base.server.wait_for_state(base.name, 1, State.END).status.error_code == 0
    # Deleting the directory reverts to the highest of the others.
    base.remove(2)
    base.wait_for(1)
    assert base.answer() == 1
    base.server.wait_for_state(base.name, 2, State.END)


def test_other_entries_are_ignored(base: _Base, models: Path) -> None:
    for name in (".7", ".8.tmp", "9.tmp", "tmp10", "x", "-3", "4e2", "v5"):
        shutil.copytree(models / "numbered" / "3", base.path / name)
    (base.path / "11").write_text("a file")
    base.add(2)
    base.wait_for(2)
    assert base.answer() == 2
    assert sorted(base.server.states(base.name)) == [1, 2]


def test_leading_zeros(base: _Base) -> None:
    base.add(6, 2)
    base.wait_for(6)
    (base.path / "6").rename(base.path / ".6")
    (base.path / ".6").rename(base.path / "00000007")
    base.wait_for(7)
    assert base.answer() == 2


def _corrupt(path: Path) -> None:
    (path / "saved_model.pb").write_bytes(b"\xff\xff no model")


def _without_graph(path: Path) -> None:
    (path / "saved_model.pb").unlink()


def _without_variables(path: Path) -> None:
    # The index must stay: a SavedModel without one is treated as a model without variables.
    for data in (path / "variables").glob("variables.data-*"):
        data.unlink()


def _unknown_op(path: Path) -> None:
    model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for node in model.meta_graphs[0].graph_def.node:
        if node.op in ("Add", "AddV2"):
            node.op = "NobodyKnowsThisOp"
    (path / "saved_model.pb").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_corrupt, ""),
        (_without_graph, ""),
        (_without_variables, "variables"),
        (_unknown_op, "NobodyKnowsThisOp"),
    ],
    ids=["corrupt", "nograph", "novariables", "unknownop"],
)
def test_broken_version_leaves_the_old_one(base: _Base, change: Callable[[Path], None], part: str) -> None:
    base.add(2, change=change)
    status = base.server.wait_for_state(base.name, 2, State.END).status
    assert status.error_code != 0
    assert part in status.error_message
    if IS_BABELREC:  # without --verbose_errors
        assert str(base.path) not in status.error_message
    assert base.server.available(base.name) == [1]
    assert base.answer() == 1
    answer = base.server.rest("GET", f"/v1/models/{base.name}/versions/2").json["model_version_status"][0]
    assert (answer["version"], answer["state"]) == ("2", "END")
    assert answer["status"]["error_code"] != "OK"
    assert answer["status"]["error_message"] == status.error_message
    # A later good version takes over.
    base.add(3)
    base.wait_for(3)
    assert base.answer() == 3


def test_no_gap_under_load(base: _Base) -> None:
    failures: list[str] = []
    answers: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        with Client(base.server.address) as target:
            request = predict_request(base.name, {"x": [0.0]})
            while not stop.is_set():
                try:
                    answers.extend(target.prediction.Predict(request, timeout=SECONDS).outputs["y"].float_val)
                except grpc.RpcError as error:
                    failures.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 3):
            base.add(version)
            base.wait_for(version)
        base.remove(3)
        base.wait_for(2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert set(answers) == {1.0, 2.0, 3.0}


class Client(Target):
    """A separate connection."""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_requests_in_flight_end_before_the_unload(base: _Base, tmp_path: Path) -> None:
    with held(base.server, tmp_path, base.name) as request:
        base.add(2)
        base.server.wait_for_state(base.name, 2, State.AVAILABLE)
        assert base.answer() == 2
        status = base.server.wait_for_state(base.name, 1, State.UNLOADING)
        assert status.status.error_code == 0
        assert not request.call.done()
        request.release()
        response = request.result()
    assert list(response.outputs["y"].float_val) == [1.0]
    assert response.model_spec.version.value == 1
    base.server.wait_for_state(base.name, 1, State.END)


def test_base_path_that_becomes_empty(base: _Base) -> None:
    base.remove(1)
    base.server.wait_for_state(base.name, 1, State.END)
    base.add(2)
    base.wait_for(2)
    assert base.answer() == 2


def test_server_waits_for_the_first_version(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "late"
    path.mkdir()
    with Server("--model_name=late", f"--model_base_path={path}", "--file_system_poll_wait_seconds=1") as server:
        _Base(server, path, models).add(1)
        server.wait_until_ready()
        assert server.predict("late", {"x": [0.0]})["y"].tolist() == [1.0]


def test_first_version_that_cannot_be_loaded_ends_the_server(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    with Server("--model_name=bad", f"--model_base_path={path}", "--max_num_load_retries=0") as server:
        path.mkdir()
        _Base(server, path, models).add(1, change=_corrupt)
        assert server.wait() != 0
        assert "bad" in server.log


@pytest.mark.babelrec_only
def test_load_is_retried(models: Path, tmp_path: Path) -> None:
    # The real server also waits between its attempts, but with --num_load_threads=0 it blocks all other loads.
    path = tmp_path / "again"
    path.mkdir()
    flags = "--max_num_load_retries=100", "--load_retry_interval_micros=100000"
    with Server("--model_name=again", f"--model_base_path={path}", *flags) as server:
        base = _Base(server, path, models)
        base.add(1)
        server.wait_until_ready()
        base.add(2, change=_corrupt)
        status = server.wait_for_state("again", 2, State.LOADING).status
        shutil.copy(models / "numbered" / "2" / "saved_model.pb", path / "2" / "saved_model.pb")
        base.wait_for(2)
        assert base.answer() == 2
        assert status is not None
