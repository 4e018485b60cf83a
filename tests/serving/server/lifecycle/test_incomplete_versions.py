"""Incomplete versions are never served: half copies, damaged files, and repaired ones, under a client in a loop."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from serving import manifest
from serving.client import Query
from tests.serving.live import ROOT, START_SECONDS, LiveServer, wait_for
from tests.serving.models import copy_version, write_warm_up
from tests.serving.server.api.test_rpc import request_of

NO_RETRIES = "--max_num_load_retries=0"
POLICIES = ("availability_preserving", "resource_preserving")
DATA = "variables/variables.data-00000-of-00001"
INDEX = "variables/variables.index"


@contextmanager
def asked_all_the_while(server: LiveServer) -> Iterator[None]:
    """A client sends requests in a loop; one failure fails the test."""
    failures: list[Exception] = []
    answers = 0
    is_over = threading.Event()

    def ask() -> None:
        nonlocal answers
        with server.client() as client:
            while not is_over.is_set():
                try:
                    client.recommend(Query(k=1))
                    answers += 1
                except Exception as error:
                    failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_for(lambda: answers > 0 or bool(failures), START_SECONDS, "an answer")
        yield
        former = answers
        wait_for(lambda: answers > former or bool(failures), START_SECONDS, "another answer")
    finally:
        is_over.set()
        thread.join()
    assert failures == []


def message(server: LiveServer, version: int) -> str:
    with server.client() as client:
        return next((status.error_message for status in client.status() if status.version == version), "")


def wait_for_message(server: LiveServer, version: int, part: str) -> None:
    wait_for(lambda: part in message(server, version), START_SECONDS, f"{part!r} of version {version}\n{server.text}")


def offset(server: LiveServer) -> int:
    """Determines which version answers: version n adds 100 (n - 1) to each score."""
    with server.client() as client:
        return round(client.recommend(Query(k=1))[0].score) // 100 * 100


def prepared(source: Path, base_path: Path, change: Callable[[Path], object]) -> Path:
    """A modified copy of a version under a hidden name."""
    aside = base_path / f".{source.name}.new"
    shutil.copytree(source, aside)
    change(aside)
    return aside


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def only_the_graph(path: Path) -> None:
    shutil.rmtree(path / "variables")


def half_a_shard(path: Path) -> None:
    cut(path / DATA)


def no_shard(path: Path) -> None:
    (path / DATA).unlink()


def half_an_index(path: Path) -> None:
    cut(path / INDEX)


def half_a_graph(path: Path) -> None:
    cut(path / "saved_model.pb")


def damaged_shard_of_the_right_size(path: Path) -> None:
    manifest.write(path)
    content = bytearray((path / DATA).read_bytes())
    content[len(content) // 2] ^= 1
    (path / DATA).write_bytes(content)


class Base:
    """A server of version 1; each test adds a version with a different number."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.newest = 1

    def bring(self, version: Path) -> int:
        self.newest += 1
        version.rename(self.server.base_path / str(self.newest))
        return self.newest


@pytest.fixture(scope="module", params=POLICIES)
def base(
    exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Base]:
    base_path = tmp_path_factory.mktemp("base")
    copy_version(exports[1], base_path / "1")
    with LiveServer(base_path, NO_RETRIES, f"--aspired_version_policy={request.param}") as server:
        yield Base(server)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (only_the_graph, f"{INDEX} is missing"),
        (half_a_shard, f"{DATA} has "),
        (no_shard, f"{DATA} is missing"),
        (half_an_index, f"{INDEX} is cut short or damaged"),
        (half_a_graph, "saved_model.pb is cut short"),
        (damaged_shard_of_the_right_size, f"{DATA} is damaged or was changed: its SHA-256 is"),
    ],
)
def test_an_incomplete_version_leaves_the_old_one(
    base: Base, exports: dict[int, Path], tmp_path: Path, change: Callable[[Path], object], expected: str
) -> None:
    with asked_all_the_while(base.server):
        version = base.bring(prepared(exports[2], tmp_path, change))
        wait_for_message(base.server, version, expected)
        assert f"Version {version} of servable recommender is not complete yet" in message(base.server, version)
        assert base.server.states()[1] == "AVAILABLE"
        assert offset(base.server) == 0
        shutil.rmtree(base.server.base_path / str(version))
        base.server.wait_for_state(version, "END")
        assert base.server.states()[1] == "AVAILABLE"


@pytest.mark.parametrize("policy", POLICIES)
def test_half_a_copy_fails_and_is_loaded_once_it_is_repaired(
    exports: dict[int, Path], tmp_path: Path, policy: str
) -> None:
    copy_version(exports[1], tmp_path / "1")
    version = prepared(exports[2], tmp_path, half_a_shard)
    with LiveServer(tmp_path, NO_RETRIES, f"--aspired_version_policy={policy}") as server:
        with asked_all_the_while(server):
            version.rename(tmp_path / "2")
            server.wait_for_state(2, "END")
            size = (exports[2] / DATA).stat().st_size
            assert f"version 2 of model recommender is incomplete: {DATA} has {size // 2} of {size} bytes" in message(
                server, 2
            )
            assert "Remedy: copy it again" in message(server, 2)
            assert server.states()[1] == "AVAILABLE"
        # With the other policy the old version must be unloaded first, which is its purpose.
        with asked_all_the_while(server) if policy == "availability_preserving" else nullcontext():
            shutil.copy(exports[2] / DATA, tmp_path / "2" / DATA)
            server.wait_for_state(2, "AVAILABLE")
            server.wait_for_state(1, "END")
        assert offset(server) == 100


@pytest.mark.parametrize("policy", POLICIES)
def test_the_old_version_keeps_answering_although_its_directory_is_gone(
    exports: dict[int, Path], tmp_path: Path, policy: str
) -> None:
    copy_version(exports[1], tmp_path / "1")
    version = prepared(exports[2], tmp_path, half_a_shard)
    with (
        LiveServer(tmp_path, NO_RETRIES, f"--aspired_version_policy={policy}") as server,
        asked_all_the_while(server),
    ):
        version.rename(tmp_path / "2")
        shutil.rmtree(tmp_path / "1")
        server.wait_for_state(2, "END")
        assert server.states()[1] == "AVAILABLE"
        assert offset(server) == 0


@contextmanager
def growing(directory: Path) -> Iterator[None]:
    """Grows a file in the version, like a copying program's own temporary file."""
    is_over = threading.Event()

    def grow() -> None:
        with (directory / ".copying").open("ab", buffering=0) as file:
            while not is_over.wait(0.1):
                file.write(b".")

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        (directory / ".copying").unlink()


def test_a_growing_copy_is_waited_for_without_using_up_retries(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    source, target = exports[2], tmp_path / "2"
    with LiveServer(tmp_path, NO_RETRIES) as server, asked_all_the_while(server):
        target.mkdir()
        with growing(target):
            wait_for_message(server, 2, "saved_model.pb is missing")
            shutil.copy(source / "saved_model.pb", target)
            wait_for_message(server, 2, f"{INDEX} is missing")
            (target / "variables").mkdir()
            shutil.copy(source / INDEX, target / INDEX)
            wait_for_message(server, 2, f"{DATA} is missing")
            content = (source / DATA).read_bytes()
            (target / DATA).write_bytes(content[:-1])
            wait_for_message(server, 2, f"{DATA} has {len(content) - 1} of {len(content)} bytes")
            assert server.states() == {1: "AVAILABLE", 2: "START"}
            (target / DATA).write_bytes(content)
            wait_for_message(server, 2, "its files are changing")
            assert offset(server) == 0
        server.wait_for_state(2, "AVAILABLE")
        server.wait_for_state(1, "END")
        assert offset(server) == 100
        assert "Version 2 of servable recommender is not complete yet: it holds no SavedModel" in server.text
        assert "Version 2 of servable recommender is complete now" in server.text
        assert "cannot be loaded" not in server.text


def test_a_first_version_that_grows_does_not_end_the_server(exports: dict[int, Path], tmp_path: Path) -> None:
    target = tmp_path / "1"
    target.mkdir()
    with LiveServer(tmp_path, NO_RETRIES) as server:
        with growing(target):
            server.wait_for_log("Version 1 of servable recommender is not complete yet")
            shutil.copytree(exports[1], target, dirs_exist_ok=True)
        assert offset(server) == 0


def test_a_deleted_copy_is_not_waited_for(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    with LiveServer(tmp_path, NO_RETRIES) as server:
        assert offset(server) == 0
        (tmp_path / "2").mkdir()
        with growing(tmp_path / "2"):
            server.wait_for_state(2, "START")
        shutil.rmtree(tmp_path / "2")
        server.wait_for_state(2, "END")
        assert message(server, 2) == ""


def test_polling_once_still_waits_for_a_copy(exports: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with LiveServer(tmp_path, NO_RETRIES, "--file_system_poll_wait_seconds=0") as server:
        with growing(tmp_path / "1"):
            server.wait_for_log("Version 1 of servable recommender is not complete yet")
            shutil.copytree(exports[1], tmp_path / "1", dirs_exist_ok=True)
        assert offset(server) == 0


def test_retries_start_over_once_the_directory_has_changed(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    version = prepared(exports[2], tmp_path, lambda path: write_warm_up(path, [request_of({"no_such_input": [1.0]})]))
    with LiveServer(tmp_path, NO_RETRIES) as server, asked_all_the_while(server):
        version.rename(tmp_path / "2")
        server.wait_for_state(2, "END")
        assert "input size does not match signature" in message(server, 2)
        (tmp_path / "2" / "assets.extra" / "tf_serving_warmup_requests").unlink()
        server.wait_for_state(2, "AVAILABLE")
        assert offset(server) == 100


def test_a_required_manifest(exports: dict[int, Path], tmp_path: Path) -> None:
    copy_version(exports[1], tmp_path / "1")
    version = copy_version(exports[2], tmp_path / "two")
    with LiveServer(tmp_path, NO_RETRIES, "--require_manifest") as server:
        assert server.wait() == 1
        assert "assets.extra/manifest.json is missing, but --require_manifest is set" in server.text
    command = [sys.executable, "-m", "serving.manifest"]
    assert subprocess.run([*command, str(tmp_path / "1")], cwd=ROOT).returncode == 0
    with LiveServer(tmp_path, NO_RETRIES, "--require_manifest") as server, asked_all_the_while(server):
        assert offset(server) == 0
        version.rename(tmp_path / "2")
        server.wait_for_state(2, "END")
        assert "`python -m serving.manifest" in message(server, 2)
        assert server.states()[1] == "AVAILABLE"
        manifest.write(tmp_path / "2")
        server.wait_for_state(2, "AVAILABLE")
