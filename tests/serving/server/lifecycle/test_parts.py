"""Source, policies, manager and flags, each in isolation."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.protos import file_system_storage_path_source_pb2
from serving.server.errors import StatusError, from_exception
from serving.server.lifecycle.manager import AspiredVersionsManager
from serving.server.lifecycle.policies import (
    Action,
    All,
    AvailabilityPreserving,
    Latest,
    ResourcePreserving,
    Specific,
    TransitionPolicy,
    VersionSnapshot,
    version_policy,
)
from serving.server.lifecycle.source import FileSystemSource, StoragePath, WatchedModel, find_versions
from serving.server.lifecycle.states import ManagerState, ServableStateMonitor
from tests.serving.live import wait_for


class FakeLoader:
    """A loader that tests control, and that records its calls."""

    def __init__(self, name: str, storage: StoragePath, failures: int = 0) -> None:
        self.servable = f"{name}/{storage.version}"
        self.path = storage.path
        self.may_load = threading.Event()
        self.may_load.set()
        self.may_unload = threading.Event()
        self.may_unload.set()
        self.failures = failures
        self.tries = 0
        self.is_unloading = False
        self.unloaded = False

    def load(self) -> None:
        self.tries += 1
        assert self.may_load.wait(60)
        if self.tries <= self.failures:
            raise StatusError(grpc.StatusCode.DATA_LOSS, f"failure {self.tries}")

    def unload(self) -> None:
        self.is_unloading = True
        assert self.may_unload.wait(60)
        self.unloaded = True


class Rig:
    """A manager of fake loaders."""

    def __init__(
        self,
        retries: int = 0,
        interval: float = 0.0,
        policy: TransitionPolicy | None = None,
        load_threads: int = 4,
        unload_threads: int = 4,
    ) -> None:
        self.monitor = ServableStateMonitor()
        self.loaders: dict[int, FakeLoader] = {}
        self.made: list[FakeLoader] = []
        self.prepare: Callable[[FakeLoader], None] = lambda loader: None
        self.manager: AspiredVersionsManager[str] = AspiredVersionsManager(
            self._make,
            policy or AvailabilityPreserving(),
            self.monitor,
            retries,
            interval,
            load_threads,
            unload_threads,
        )

    def _make(self, name: str, storage: StoragePath) -> FakeLoader:
        loader = FakeLoader(name, storage)
        self.prepare(loader)
        self.loaders[storage.version] = loader
        self.made.append(loader)
        return loader

    def aspire(self, *versions: int, base_path: str = "") -> None:
        self.manager.set_aspired_versions("m", [StoragePath(v, Path(base_path) / str(v)) for v in versions])

    def states(self) -> dict[int, str]:
        return {v: state.manager_state.name for v, state in self.monitor.versions("m").items()}

    def wait(self, states: dict[int, str]) -> None:
        try:
            wait_for(lambda: self.states() == states, 10, str(states))
        except AssertionError as error:
            raise AssertionError(f"{error}, got {self.states()}") from None

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


def test_handles_are_released_when_a_request_fails() -> None:
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
    rig.aspire(2)  # the next poll finds the same: no second attempt, no change
    assert rig.loaders[2].tries == 1
    assert rig.latest() == "m/1"
    rig.aspire(1)  # the broken version was deleted
    assert rig.states()[1] == "AVAILABLE"
    rig.prepare = lambda loader: None
    rig.aspire(2)  # and comes back repaired
    rig.wait({1: "END", 2: "AVAILABLE"})
    assert rig.monitor.versions("m")[2].error is None


def test_a_failed_load_is_retried_and_shows_its_error_in_the_meantime() -> None:
    rig = Rig(retries=3, interval=0.3)
    rig.prepare = lambda loader: setattr(loader, "failures", 2)
    rig.aspire(1)
    wait_for(lambda: rig.monitor.versions("m")[1].error is not None, 60, "an error")
    assert rig.states() == {1: "LOADING"}
    assert not rig.monitor.versions("m")[1].error_is_final
    rig.wait({1: "AVAILABLE"})
    assert rig.loaders[1].tries == 3


def test_retries_are_limited() -> None:
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
    wait_for(lambda: rig.loaders[1].tries == 1, 60, "a try")
    rig.prepare = lambda loader: None
    rig.aspire(2)
    rig.wait({1: "END", 2: "AVAILABLE"})
    assert rig.loaders[1].tries == 1


def test_a_version_removed_and_added_again_between_retries_starts_afresh() -> None:
    rig = Rig(retries=5, interval=3600.0)
    rig.prepare = lambda loader: setattr(loader, "failures", 1)
    rig.aspire(1)
    wait_for(lambda: rig.loaders[1].tries == 1, 60, "a try")
    rig.prepare = lambda loader: None
    rig.aspire()
    rig.aspire(1)  # too early, as the first load has not ended yet; it must load without another request
    rig.wait({1: "AVAILABLE"})
    assert len(rig.made) == 2
    assert rig.monitor.versions("m")[1].error is None  # cancelled, not failed


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


def test_several_versions_at_once() -> None:
    rig = Rig()
    rig.aspire(1, 2, 3)
    rig.wait({1: "AVAILABLE", 2: "AVAILABLE", 3: "AVAILABLE"})
    assert rig.manager.available() == {"m": [1, 2, 3]}
    assert rig.latest() == "m/3"
    with rig.manager.acquire("m", 2) as (version, servable):
        assert (version, servable) == (2, "m/2")
    rig.aspire(1, 3)
    rig.wait({1: "AVAILABLE", 2: "END", 3: "AVAILABLE"})


def test_a_version_that_comes_back_while_it_is_unloaded_is_loaded_again() -> None:
    rig = Rig()
    rig.prepare = lambda loader: loader.may_unload.clear()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    first = rig.loaders[1]
    rig.aspire()
    wait_for(lambda: first.is_unloading, 60, "the unload")
    rig.aspire(1)
    time.sleep(0.05)
    assert len(rig.made) == 1
    first.may_unload.set()
    rig.wait({1: "AVAILABLE"})  # without another report from the source
    assert len(rig.made) == 2


def test_a_version_loaded_in_vain_never_answers() -> None:
    """A version that is removed while it loads may have been removed because it is faulty."""
    rig = Rig()
    published: list[str] = []
    rig.monitor.subscribe(lambda name, version, state: published.append(state.manager_state.name))
    rig.prepare = lambda loader: loader.may_load.clear()
    rig.aspire(1)
    wait_for(lambda: rig.loaders[1].tries == 1, 60, "the load")
    rig.aspire()
    rig.loaders[1].may_load.set()
    rig.wait({1: "END"})
    assert published == ["START", "LOADING", "UNLOADING", "END"]
    assert rig.loaders[1].unloaded


def test_a_version_moves_to_another_directory_without_a_gap() -> None:
    rig = Rig()
    rig.aspire(1, base_path="/a")
    rig.wait({1: "AVAILABLE"})
    published: list[str] = []
    rig.monitor.subscribe(lambda name, version, state: published.append(state.manager_state.name))
    rig.prepare = lambda loader: loader.may_load.clear()
    rig.aspire(1, base_path="/b")
    old, new = rig.made
    wait_for(lambda: new.tries == 1, 60, "the load")
    with rig.manager.acquire("m", 1):
        new.may_load.set()
        wait_for(lambda: rig.manager._serving["m"].by_version[1].loader is new, 60, "the new one")
        assert not old.unloaded
    wait_for(lambda: old.unloaded, 60, "the unload")
    assert set(published) == {"AVAILABLE"}


def test_a_move_to_a_broken_directory_keeps_the_old_one_and_shows_the_error() -> None:
    rig = Rig()
    rig.aspire(1, base_path="/a")
    rig.wait({1: "AVAILABLE"})
    rig.prepare = lambda loader: setattr(loader, "failures", 99)
    rig.aspire(1, base_path="/b")
    wait_for(lambda: rig.monitor.versions("m")[1].error is not None, 60, "the error")
    assert rig.states() == {1: "AVAILABLE"}
    assert rig.latest() == "m/1"
    rig.aspire(1, base_path="/a")  # reverted
    assert rig.monitor.versions("m")[1].error is None
    assert len(rig.made) == 2
    assert not rig.made[0].unloaded


def test_resource_preserving_unloads_before_it_loads() -> None:
    rig = Rig(policy=ResourcePreserving())
    rig.prepare = lambda loader: loader.may_unload.clear()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    rig.aspire(2)
    rig.wait({1: "UNLOADING", 2: "START"})
    wait_for(lambda: rig.loaders[1].is_unloading, 60, "the unload")
    with pytest.raises(StatusError):
        rig.latest()
    assert rig.loaders[2].tries == 0
    rig.loaders[1].may_unload.set()
    rig.wait({1: "END", 2: "AVAILABLE"})


def test_concurrent_loads_are_limited_but_waiting_for_a_retry_does_not_count() -> None:
    rig = Rig(retries=1, interval=3600.0, load_threads=2)

    def hold_and_fail(loader: FakeLoader) -> None:
        loader.may_load.clear()
        loader.failures = 1

    rig.prepare = hold_and_fail
    rig.aspire(*range(1, 6))
    wait_for(lambda: sum(loader.tries for loader in rig.made) == 2, 60, "two loads")
    time.sleep(0.05)
    assert sum(loader.tries for loader in rig.made) == 2
    for loader in rig.made:
        loader.may_load.set()
    # All fail, and wait an hour for their second attempt, but all have had their first.
    wait_for(lambda: [loader.tries for loader in rig.made] == [1] * 5, 60, "five loads")
    rig.manager.set_num_load_threads(0)
    rig.prepare = lambda loader: None
    rig.aspire(*range(1, 7))
    wait_for(lambda: rig.states()[6] == "AVAILABLE", 60, "the sixth")
    assert rig.manager.stop(5)


def test_concurrent_unloads_are_limited_but_waiting_for_requests_does_not_count() -> None:
    rig = Rig(unload_threads=0)
    rig.prepare = lambda loader: loader.may_unload.clear()
    rig.aspire(1, 2, 3)
    rig.wait({1: "AVAILABLE", 2: "AVAILABLE", 3: "AVAILABLE"})
    with rig.manager.acquire("m", 1):
        rig.aspire()
        wait_for(lambda: sum(loader.is_unloading for loader in rig.made) == 1, 60, "an unload")
        time.sleep(0.05)
        assert sum(loader.is_unloading for loader in rig.made) == 1
        for loader in rig.made:
            loader.may_unload.set()
        rig.wait({1: "UNLOADING", 2: "END", 3: "END"})
    rig.wait({1: "END", 2: "END", 3: "END"})


def test_a_loader_that_cannot_be_created_is_a_failed_load() -> None:
    rig = Rig()

    def refuse(loader: FakeLoader) -> None:
        raise ValueError("no such thing")

    rig.prepare = refuse
    rig.aspire(1)
    rig.wait({1: "END"})
    assert str(rig.monitor.versions("m")[1].error) == "INTERNAL: ValueError: no such thing"


_ASPIRATIONS = st.lists(
    st.tuples(st.sets(st.integers(1, 4)), st.sampled_from(["/a", "/b"]), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(_ASPIRATIONS, st.sampled_from([AvailabilityPreserving, ResourcePreserving]))
def test_any_sequence_of_events_ends_with_the_last_aspired_versions(
    course: list[tuple[set[int], str, bool]], policy: type[AvailabilityPreserving] | type[ResourcePreserving]
) -> None:
    """Whatever was aspired before, in whatever order loads and unloads end: only those are served in the end."""
    rig = Rig(policy=policy(), load_threads=2, unload_threads=2)
    for versions, base_path, pause in course:
        rig.aspire(*versions, base_path=base_path)
        if pause:
            time.sleep(0.001)
    versions, base_path, _ = course[-1]
    expected = {Path(base_path) / str(version) for version in versions}

    def served() -> set[Path] | None:
        harnesses = list(rig.manager._harnesses.get("m", []))
        if {harness.phase.name for harness in harnesses} - {"READY"}:
            return None  # not at rest yet
        return {harness.storage.path for harness in harnesses}

    wait_for(lambda: served() == expected, 60, f"{expected}, got {served()}")
    assert set(rig.manager.available().get("m", [])) == versions
    assert {v for v, state in rig.states().items() if state == "AVAILABLE"} == versions
    assert sum(not loader.unloaded and loader.tries > 0 for loader in rig.made) == len(versions)
    assert rig.manager.stop(10)
    assert all(loader.unloaded or not loader.tries for loader in rig.made)
    assert {*rig.states().values()} <= {"END"}


def test_stop_waits_for_requests_but_not_forever() -> None:
    rig = Rig()
    rig.aspire(1)
    rig.wait({1: "AVAILABLE"})
    with rig.manager.acquire("m"):
        assert not rig.manager.stop(0.1)
    assert rig.manager.stop(5)
    rig.aspire(2)  # too late
    assert 2 not in rig.loaders


def test_many_threads_over_many_swaps_never_get_an_unloaded_version() -> None:
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
        wait_for(lambda v=version: rig.states()[v] == "AVAILABLE", 60, "swap")  # type: ignore[misc]
    stop.set()
    for user in users:
        user.join()
    assert not faults
    wait_for(lambda: all(rig.loaders[v].unloaded for v in range(1, 39)), 60, "unloads")


def snapshot(version: int, phase: str, aspired: bool = True) -> VersionSnapshot:
    return VersionSnapshot(version, phase == "new", phase == "ready", aspired, phase == "done")


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], None),
        ([snapshot(1, "new")], (Action.LOAD, 1)),
        ([snapshot(1, "new"), snapshot(2, "new")], (Action.LOAD, 2)),
        # The old one stays while the new one loads, and is unloaded when that is ready.
        ([snapshot(1, "ready", False), snapshot(2, "loading")], None),
        ([snapshot(1, "ready", False), snapshot(2, "ready")], (Action.UNLOAD, 1)),
        ([snapshot(1, "ready", False)], (Action.UNLOAD, 1)),
        ([snapshot(1, "ready", False), snapshot(2, "done")], None),
        # Only the newest of several old ones is needed for availability.
        ([snapshot(1, "ready", False), snapshot(2, "ready", False), snapshot(3, "new")], (Action.UNLOAD, 1)),
    ],
)
def test_availability_preserving(versions: Sequence[VersionSnapshot], expected: tuple[Action, int] | None) -> None:
    assert decided(AvailabilityPreserving(), versions) == expected


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], None),
        ([snapshot(1, "new"), snapshot(2, "new")], (Action.LOAD, 2)),
        # Unwanted versions are unloaded first, and must be gone before anything loads.
        ([snapshot(1, "ready", False), snapshot(2, "new")], (Action.UNLOAD, 1)),
        ([snapshot(1, "leaving", False), snapshot(2, "new")], None),
        ([snapshot(1, "loading", False), snapshot(2, "new")], None),
        ([snapshot(1, "done", False), snapshot(2, "new")], (Action.LOAD, 2)),
        ([snapshot(1, "ready"), snapshot(2, "new")], (Action.LOAD, 2)),
    ],
)
def test_resource_preserving(versions: Sequence[VersionSnapshot], expected: tuple[Action, int] | None) -> None:
    assert decided(ResourcePreserving(), versions) == expected


def decided(policy: TransitionPolicy, versions: Sequence[VersionSnapshot]) -> tuple[Action, int] | None:
    step = policy.next_action(versions)
    return None if step is None else (step[0], step[1].version)


def test_all_and_specific() -> None:
    assert All().select([3, 10, 2]) == [2, 3, 10]
    assert Specific(frozenset({10, 2, 7})).select([3, 10, 2]) == [2, 10]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Latest(1)),
        ("latest {}", Latest(1)),
        ("latest { num_versions: 3 }", Latest(3)),
        ("all {}", All()),
        ("specific { versions: 7 versions: 8 }", Specific(frozenset({7, 8}))),
    ],
)
def test_version_policies_of_the_config(text: str, expected: object) -> None:
    config = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy()
    assert version_policy(text_format.Parse(text, config)) == expected


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
    wait_for(lambda: ("m", [1]) in calls, 60, "version 1")
    (base_path / "2").mkdir()
    wait_for(lambda: ("m", [2]) in calls, 60, "version 2")
    base_path.rename(tmp_path / "away")
    wait_for(lambda: "Could not find base path" in caplog.text, 60, "the warning")
    assert ("m", []) not in calls
    time.sleep(0.1)
    assert caplog.text.count("Could not find base path") == 1  # not at every poll
    base_path.mkdir()
    wait_for(lambda: ("m", []) in calls, 60, "no version")
    source.stop()
    assert "No versions of servable m found under base path" in caplog.text


def test_source_polls_once_if_configured(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    calls: list[str] = []
    source = FileSystemSource([WatchedModel("m", tmp_path, Latest())], 0, lambda name, versions: calls.append(name))
    source.start()
    wait_for(lambda: calls == ["m"], 60, "the poll")
    time.sleep(0.05)
    source.stop()
    assert calls == ["m"]


def test_source_never_polls_if_configured(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    calls: list[str] = []
    source = FileSystemSource([WatchedModel("m", tmp_path, Latest())], -1, lambda name, versions: calls.append(name))
    source.start()
    source.update([WatchedModel("m", tmp_path, All())])
    time.sleep(0.1)
    source.stop()
    assert calls == []


def test_source_switches_to_other_models(tmp_path: Path) -> None:
    """Models left out are unaspired at once, others follow at the next poll, which doesn't wait for the pause."""
    for name in ("a/1", "b/1", "b/2", "elsewhere/1", "elsewhere/7"):
        (tmp_path / name).mkdir(parents=True)
    latest: dict[str, list[Path]] = {}
    source = FileSystemSource(
        [WatchedModel("a", tmp_path / "a", Latest()), WatchedModel("b", tmp_path / "b", Latest())],
        0,
        lambda name, versions: latest.__setitem__(name, [storage.path for storage in versions]),
    )
    source.start()
    wait_for(lambda: latest == {"a": [tmp_path / "a/1"], "b": [tmp_path / "b/2"]}, 60, "the first models")
    source.update([WatchedModel("b", tmp_path / "elsewhere", All()), WatchedModel("c", tmp_path / "b", Latest())])
    assert latest["a"] == []
    wait_for(
        lambda: (
            latest["b"] == [tmp_path / "elsewhere/1", tmp_path / "elsewhere/7"]
            and latest.get("c") == [tmp_path / "b/2"]
        ),
        5,
        "the other models",
    )
    source.stop()


def test_a_version_directory_as_base_path_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    version = tmp_path / "模型" / "7"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    complained: list[str] = []
    source = FileSystemSource([WatchedModel("m", version, Latest())], 0, lambda *_: complained.append("looked at"))
    source.start()
    wait_for(lambda: bool(complained), 60, "the poll")
    source.stop()
    assert f"It holds a saved_model.pb itself: give the directory above it, {version.parent}." in caplog.text
    assert source.complaint("m") in caplog.text
    assert not source.is_missing("m")


def test_source_refuses_to_unload_everything_when_versions_are_always_present(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "1").mkdir()
    calls: list[list[int]] = []
    source = FileSystemSource(
        [WatchedModel("m", tmp_path, Latest())],
        0.02,
        lambda name, versions: calls.append([storage.version for storage in versions]),
        servable_versions_always_present=True,
    )
    source.start()
    wait_for(lambda: calls[-1:] == [[1]], 60, "version 1")
    (tmp_path / "1").rmdir()
    wait_for(lambda: "Refusing to unload all versions for Servable: m" in caplog.text, 60, "the refusal")
    assert [] not in calls
    time.sleep(0.1)
    source.stop()
    assert caplog.text.count("Refusing") == 1


def test_source_names_specific_versions_that_are_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "2").mkdir()
    calls: list[list[int]] = []
    source = FileSystemSource(
        [WatchedModel("m", tmp_path, Specific(frozenset({2, 5, 9})))],
        0,
        lambda name, versions: calls.append([storage.version for storage in versions]),
    )
    source.start()
    wait_for(lambda: calls == [[2]], 60, "version 2")
    source.stop()
    assert "Version 5, 9 of servable m, which was requested to be served as a 'specific' version" in caplog.text


def test_errors_keep_their_code_and_fit_into_a_header() -> None:
    import tensorflow as tf

    error = from_exception(tf.errors.InvalidArgumentError(None, None, "x" * 5000))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.grpc_details == "x" * 1024 + "...TRUNCATED"
    # Limited in bytes, like the header, without splitting characters.
    assert StatusError(grpc.StatusCode.INTERNAL, "帐" * 341).grpc_details == "帐" * 341
    assert StatusError(grpc.StatusCode.INTERNAL, "帐" * 342).grpc_details == "帐" * 341 + "...TRUNCATED"
    assert from_exception(MemoryError()).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(from_exception(KeyError("a"))) == "INTERNAL: KeyError: 'a'"
    assert ManagerState(30) is ManagerState.AVAILABLE
