"""Source, policies, manager and flags, each on its own."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest

from serving.server import flags
from serving.server.errors import StatusError, from_exception
from serving.server.manager import AspiredVersionsManager
from serving.server.policies import Action, AvailabilityPreserving, Latest, VersionSnapshot
from serving.server.source import FileSystemSource, StoragePath, WatchedModel, find_versions
from serving.server.states import ManagerState, ServableStateMonitor
from tests.serving.live import wait_for


class FakeLoader:
    """A loader that loads when it is told to and notes what happens to it."""

    def __init__(self, name: str, storage: StoragePath, failures: int = 0) -> None:
        self.servable = f"{name}/{storage.version}"
        self.may_load = threading.Event()
        self.may_load.set()
        self.failures = failures
        self.tries = 0
        self.unloaded = False

    def load(self) -> None:
        self.tries += 1
        assert self.may_load.wait(10)
        if self.tries <= self.failures:
            raise StatusError(grpc.StatusCode.DATA_LOSS, f"failure {self.tries}")

    def unload(self) -> None:
        self.unloaded = True


class Rig:
    """A manager of fake loaders."""

    def __init__(self, retries: int = 0, interval: float = 0.0) -> None:
        self.monitor = ServableStateMonitor()
        self.loaders: dict[int, FakeLoader] = {}
        self.prepare: Callable[[FakeLoader], None] = lambda loader: None
        self.manager: AspiredVersionsManager[str] = AspiredVersionsManager(
            self._make, AvailabilityPreserving(), self.monitor, retries, interval
        )

    def _make(self, name: str, storage: StoragePath) -> FakeLoader:
        loader = FakeLoader(name, storage)
        self.prepare(loader)
        self.loaders[storage.version] = loader
        return loader

    def aspire(self, *versions: int) -> None:
        self.manager.set_aspired_versions("m", [StoragePath(v, Path(str(v))) for v in versions])

    def states(self) -> dict[int, str]:
        return {v: state.manager_state.name for v, state in self.monitor.versions("m").items()}

    def wait(self, states: dict[int, str]) -> None:
        wait_for(lambda: self.states() == states, 10, f"{states}, got {self.states()}")

    def latest(self) -> str:
        with self.manager.acquire("m") as (version, servable):
            assert servable == f"m/{version}"
            return servable


def test_a_newer_version_replaces_the_older_once_it_is_ready() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    rig.prepare = lambda loader: loader.may_load.clear()
    rig.aspire(2)
    rig.wait({1: "AVAILABLE", 2: "LOADING"})
    assert rig.latest() == "m/1"
    rig.loaders[2].may_load.set()
    rig.wait({1: "END", 2: "AVAILABLE"})
    assert rig.latest() == "m/2"
    assert rig.loaders[1].unloaded
    with pytest.raises(StatusError, match=r"Servable not found for request: Specific\(m, 1\)"):
        rig.manager.acquire("m", 1).__enter__()


def test_a_version_in_use_is_not_unloaded() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    with rig.manager.acquire("m") as (version, servable):
        rig.aspire(2)
        rig.wait({1: "UNLOADING", 2: "AVAILABLE"})
        time.sleep(0.1)
        assert not rig.loaders[1].unloaded
        assert (version, servable) == (1, "m/1")
        assert rig.latest() == "m/2"  # new requests go to the new version
        with pytest.raises(StatusError):
            rig.manager.acquire("m", 1).__enter__()
    rig.wait({1: "END", 2: "AVAILABLE"})
    assert rig.loaders[1].unloaded


def test_handles_are_given_back_when_a_request_fails() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    with pytest.raises(ZeroDivisionError), rig.manager.acquire("m"):
        raise ZeroDivisionError
    assert rig.manager.stop(5)
    assert rig.loaders[1].unloaded


def test_a_broken_version_leaves_the_old_one_and_can_be_overtaken_or_rolled_back() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    rig.prepare = lambda loader: setattr(loader, "failures", 99)
    rig.aspire(2)
    rig.wait({1: "AVAILABLE", 2: "END"})
    error = rig.monitor.versions("m")[2].error
    assert error is not None
    assert error.code is grpc.StatusCode.DATA_LOSS
    rig.aspire(2)  # the next poll finds the same: no second try, no change
    assert rig.loaders[2].tries == 1
    assert rig.latest() == "m/1"
    rig.aspire(1)  # the broken version was deleted
    assert rig.states()[1] == "AVAILABLE"
    rig.prepare = lambda loader: None
    rig.aspire(2)  # and comes back mended
    rig.wait({1: "END", 2: "AVAILABLE"})
    assert rig.monitor.versions("m")[2].error is None


def test_a_failed_load_is_tried_again_and_shows_its_error_meanwhile() -> None:
    rig = Rig(retries=3, interval=0.3)
    rig.prepare = lambda loader: setattr(loader, "failures", 2)
    rig.aspire(1)
    wait_for(lambda: rig.monitor.versions("m")[1].error is not None, 5, "an error")
    assert rig.states() == {1: "LOADING"}
    assert not rig.monitor.versions("m")[1].error_is_final
    rig.wait({1: "AVAILABLE"})
    assert rig.loaders[1].tries == 3


def test_retries_end() -> None:
    rig = Rig(retries=2)
    rig.prepare = lambda loader: setattr(loader, "failures", 99)
    rig.aspire(1)
    rig.wait({1: "END"})
    assert rig.loaders[1].tries == 3
    assert rig.monitor.versions("m")[1].error_is_final


def test_a_newer_version_does_not_wait_for_the_retries_of_a_broken_one() -> None:
    rig = Rig(retries=5, interval=3600.0)
    rig.prepare = lambda loader: setattr(loader, "failures", 99)
    rig.aspire(1)
    wait_for(lambda: rig.loaders[1].tries == 1, 5, "a try")
    rig.prepare = lambda loader: None
    rig.aspire(2)
    rig.wait({1: "END", 2: "AVAILABLE"})
    assert rig.loaders[1].tries == 1


def test_a_version_that_goes_and_comes_back_between_retries_starts_afresh() -> None:
    rig = Rig(retries=5, interval=3600.0)
    rig.prepare = lambda loader: setattr(loader, "failures", 1)
    rig.aspire(1)
    wait_for(lambda: rig.loaders[1].tries == 1, 5, "a try")
    rig.prepare = lambda loader: None
    rig.aspire()
    rig.aspire(1)  # maybe too early, as the first load has not ended yet
    rig.wait({1: "END"})
    assert rig.monitor.versions("m")[1].error is None  # cancelled, not failed
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})


def test_no_aspired_version_unloads_everything() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    rig.aspire()
    rig.wait({1: "END"})
    with pytest.raises(StatusError, match=r"Latest\(m\)"):
        rig.latest()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})


def test_a_deleted_version_rolls_back_without_a_gap() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    rig.aspire(2)
    rig.wait({1: "END", 2: "AVAILABLE"})
    rig.prepare = lambda loader: loader.may_load.clear()
    rig.aspire(1)
    rig.wait({1: "LOADING", 2: "AVAILABLE"})
    assert rig.latest() == "m/2"
    rig.loaders[1].may_load.set()
    rig.wait({1: "AVAILABLE", 2: "END"})
    assert rig.latest() == "m/1"


def test_stop_waits_for_requests_but_not_for_ever() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    with rig.manager.acquire("m"):
        assert not rig.manager.stop(0.1)
    assert rig.manager.stop(5)
    rig.aspire(2)  # too late
    assert 2 not in rig.loaders


def test_many_threads_over_many_swaps_never_meet_an_unloaded_version() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    stop = threading.Event()
    faults: list[str] = []

    def use() -> None:
        while not stop.is_set():
            with rig.manager.acquire("m") as (version, _):
                if rig.loaders[version].unloaded:
                    faults.append(f"before use of {version}")
                time.sleep(0)
                if rig.loaders[version].unloaded:
                    faults.append(f"in use of {version}")

    users = [threading.Thread(target=use) for _ in range(8)]
    for user in users:
        user.start()
    for version in range(2, 40):
        rig.aspire(version)
        wait_for(lambda v=version: rig.states()[v] == "AVAILABLE", 10, "swap")  # type: ignore[misc]
    stop.set()
    for user in users:
        user.join()
    assert not faults
    wait_for(lambda: all(rig.loaders[v].unloaded for v in range(1, 39)), 10, "unloads")


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], None),
        ([VersionSnapshot(1, True, False, True)], (Action.LOAD, 1)),
        ([VersionSnapshot(1, True, False, True), VersionSnapshot(2, True, False, True)], (Action.LOAD, 2)),
        # The old one stays while the new one loads, and goes when it is ready.
        ([VersionSnapshot(1, False, True, False), VersionSnapshot(2, False, False, True)], None),
        ([VersionSnapshot(1, False, True, False), VersionSnapshot(2, False, True, True)], (Action.UNLOAD, 1)),
        ([VersionSnapshot(1, False, True, False)], (Action.UNLOAD, 1)),
        # Of several old ones only the newest is needed for availability.
        (
            [
                VersionSnapshot(1, False, True, False),
                VersionSnapshot(2, False, True, False),
                VersionSnapshot(3, True, False, True),
            ],
            (Action.UNLOAD, 1),
        ),
    ],
)
def test_availability_preserving(versions: Sequence[VersionSnapshot], expected: tuple[Action, int] | None) -> None:
    assert AvailabilityPreserving().next_action(versions) == expected


def test_latest() -> None:
    assert Latest().select([3, 10, 2]) == [10]
    assert Latest(2).select([3, 10, 2]) == [3, 10]
    assert Latest(2).select([]) == []


def test_find_versions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("1", "007", "7", "20261123131718", "-3", "1.5", "v2", ".9.tmp", "٣", "99999999999999999999"):
        (tmp_path / name).mkdir()
    (tmp_path / "8").write_text("a file")
    (tmp_path / "6").symlink_to(tmp_path / "1")
    assert {version: path.name for version, path in find_versions(tmp_path).items()} == {
        1: "1",
        6: "6",
        7: "7",
        20261123131718: "20261123131718",
    }
    assert "duplicate version directories" in caplog.text


def test_source_keeps_what_is_served_when_the_base_path_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    calls: list[tuple[str, list[int]]] = []
    base_path = tmp_path / "models"
    (base_path / "1").mkdir(parents=True)
    source = FileSystemSource(
        [WatchedModel("m", base_path, Latest())],
        0.02,
        lambda name, versions: calls.append((name, [storage.version for storage in versions])),
    )
    source.start()
    wait_for(lambda: ("m", [1]) in calls, 5, "version 1")
    (base_path / "2").mkdir()
    wait_for(lambda: ("m", [2]) in calls, 5, "version 2")
    base_path.rename(tmp_path / "away")
    wait_for(lambda: "Could not find base path" in caplog.text, 5, "the warning")
    assert ("m", []) not in calls
    time.sleep(0.1)
    assert caplog.text.count("Could not find base path") == 1  # not at every poll
    base_path.mkdir()
    wait_for(lambda: ("m", []) in calls, 5, "no version")
    source.stop()
    assert "No versions of servable m found under base path" in caplog.text


def test_source_polls_once_when_told_so(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    calls: list[str] = []
    source = FileSystemSource([WatchedModel("m", tmp_path, Latest())], 0, lambda name, versions: calls.append(name))
    source.start()
    source.stop()
    assert calls == ["m"]


def test_flags_are_tensorflow_serving_s() -> None:
    options = flags.parse(["--model_base_path=models/x"])
    assert (options.port, options.model_name, options.file_system_poll_wait_seconds) == (8500, "default", 1)
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (5, 60_000_000)
    assert options.model_base_path == Path.cwd() / "models/x"
    options = flags.parse(
        [
            "--port", "9000", "--model_name=m", "--model_base_path", "/a", "--enable_model_warmup=false",
            "--rest_api_port=0", "--enable_batching=false", "--saved_model_tags=serve,gpu",
            "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,a=b",
        ]
    )  # fmt: skip
    assert (options.port, options.enable_model_warmup) == (9000, False)
    assert options.grpc_channel_arguments == [("grpc.max_connection_age_ms", 2000), ("a", "b")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--model_base_path is required"),
        (["--model_base_path=/a", "--enable_batching"], "--enable_batching is a flag of TensorFlow Serving"),
        (["--model_base_path=/a", "--rest_api_port=8501"], "does not support yet"),
        (["--model_base_path=/a", "--model_config_file=x"], "does not support yet"),
        (["--model_base_path=/a", "--prot=1"], "unrecognized arguments: --prot=1"),
        (["--model_base_path=/a", "--port=70000"], "not between 0 and 65535"),
        (["--model_base_path=/a", "--port=x"], "--port"),
        (["--model_base_path=/a", "--model_name="], "--model_name must not be empty"),
        (["--model_base_path=gs://bucket/m"], "only local directories"),
        (["--model_base_path=/a", "--grpc_max_threads=0"], "less than 1"),
        (["--model_base_path=/a", "--enable_model_warmup=perhaps"], "neither true nor false"),
        (["--model_base_path=/a", "--grpc_channel_arguments=x"], "is not key=value"),
    ],
)
def test_bad_flags(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        flags.parse(arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        flags.parse(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--port", "--model_base_path", "--file_system_poll_wait_seconds", "--grpc_max_threads"):
        assert flag in text


def test_errors_keep_their_code_and_fit_into_a_header() -> None:
    import tensorflow as tf

    error = from_exception(tf.errors.InvalidArgumentError(None, None, "x" * 5000))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.grpc_details == "x" * 1024 + "...TRUNCATED"
    assert from_exception(MemoryError()).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(from_exception(KeyError("a"))) == "INTERNAL: KeyError: 'a'"
    assert ManagerState(30) is ManagerState.AVAILABLE
