"""ServerCore: which configurations are accepted, their effects, and how requests find their version."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from serving.protos import model_pb2, model_server_config_pb2
from serving.server.errors import StatusError
from serving.server.lifecycle.core import CoreOptions, ServerCore, _margin
from serving.server.lifecycle.source import StoragePath
from tests.serving.live import wait_for

NO_LIST = "ModelServer does not yet support custom model config."


class FileLoader:
    """Serves the text of ``model.txt`` in its version directory; ``wait.txt`` there delays the load."""

    def __init__(self, name: str, storage: StoragePath, config: object) -> None:
        self._path = storage.path
        self.config = config
        self.servable = ""

    def load(self) -> None:
        wait_for(lambda: not (self._path / "wait.txt").exists(), 60, "the load")
        if not (self._path / "model.txt").exists():
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"no model in {self._path}")
        self.servable = (self._path / "model.txt").read_text()

    def unload(self) -> None:
        self.servable = ""


def write(base_path: Path, *versions: int, text: str = "") -> Path:
    """Version directories whose models are named after them."""
    for version in versions:
        directory = base_path / str(version)
        directory.mkdir(parents=True)
        (directory / "model.txt").write_text(text or f"{base_path.name}/{version}")
    return base_path


def entry(name: str, base_path: Path | str, more: str = "") -> str:
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}'


def config_of(*entries: str) -> Any:
    return text_format.Parse(
        f"model_config_list {{ {' '.join(entries)} }}", model_server_config_pb2.ModelServerConfig()
    )


def options(**changes: Any) -> CoreOptions:
    return CoreOptions(**({"max_num_load_retries": 0, "file_system_poll_wait_seconds": 0.02} | changes))


@pytest.fixture
def core() -> Iterator[ServerCore[str]]:
    made: ServerCore[str] = ServerCore(FileLoader, options())
    yield made
    assert made.stop(10)


def spec(name: str = "", version: int | None = None, label: str | None = None) -> Any:
    made = model_pb2.ModelSpec(name=name)
    if version is not None:
        made.version.value = version
    if label is not None:
        made.version_label = label
    return made


def ask(core: ServerCore[str], name: str, version: int | None = None, label: str | None = None) -> str:
    with core.acquire(spec(name, version, label)) as (_, servable):
        return servable


def states(core: ServerCore[str], name: str) -> dict[int, str]:
    return {version: state.manager_state.name for version, state in core.monitor.versions(name).items()}


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(StatusError) as caught:
        call(*arguments)
    return str(caught.value)


def test_several_models_and_version_policies(core: ServerCore[str], tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / name, 1, 2, 3)
    core.start(
        config_of(
            entry("a", tmp_path / "a"),
            entry("b", tmp_path / "b", "model_version_policy { all {} }"),
            entry("c", tmp_path / "c", "model_version_policy { specific { versions: 1 versions: 2 versions: 9 } }"),
        )
    )
    assert {name: [*states(core, name)] for name in "abc"} == {"a": [3], "b": [3, 2, 1], "c": [2, 1]}
    assert [ask(core, name) for name in "abc"] == ["a/3", "b/3", "c/2"]
    assert [ask(core, "b", version) for version in (1, 2, 3)] == ["b/1", "b/2", "b/3"]
    assert refusal(ask, core, "c", 3) == "NOT_FOUND: Servable not found for request: Specific(c, 3)"
    assert refusal(ask, core, "d") == "NOT_FOUND: Servable not found for request: Latest(d)"
    assert refusal(ask, core, "") == "INVALID_ARGUMENT: ModelSpec has no name specified."


def test_loaders_get_their_models_config(tmp_path: Path) -> None:
    made: list[tuple[str, int, str]] = []

    def make(name: str, storage: StoragePath, config: Any) -> FileLoader:
        made.append((name, storage.version, config.base_path))
        return FileLoader(name, storage, config)

    write(tmp_path / "a", 7)
    core: ServerCore[str] = ServerCore(make, options())
    core.start(config_of(entry("m", tmp_path / "a")))
    assert made == [("m", 7, str(tmp_path / "a"))]
    assert core.stop(60)


def test_a_reload_applies_only_the_new_config(core: ServerCore[str], tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / name, 1)
    core.start(config_of(entry("a", tmp_path / "a"), entry("b", tmp_path / "b")))
    core.reload(config_of(entry("b", tmp_path / "b"), entry("c", tmp_path / "c")), 60)
    assert (ask(core, "b"), ask(core, "c")) == ("b/1", "c/1")
    wait_for(lambda: states(core, "a") == {1: "END"}, 60, "the end of a")
    assert refusal(ask, core, "a").startswith("NOT_FOUND")
    core.reload(config_of(), 60)
    wait_for(lambda: states(core, "b") == states(core, "c") == {1: "END"}, 60, "the end of all")
    core.reload(config_of(entry("a", tmp_path / "a")), 10)  # and back again
    assert ask(core, "a") == "a/1"


def test_a_reload_answers_once_its_models_are_available(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 1)
    hold = tmp_path / "b" / "1" / "wait.txt"
    hold.touch()
    core.start(config_of(entry("a", tmp_path / "a")))
    with ThreadPoolExecutor(1) as pool:
        reloading = pool.submit(core.reload, config_of(entry("a", tmp_path / "a"), entry("b", tmp_path / "b")), 60)
        wait_for(lambda: states(core, "b") == {1: "LOADING"}, 60, "the load")
        assert not reloading.done()
        assert ask(core, "a") == "a/1"
        hold.unlink()
        reloading.result(60)
    assert ask(core, "b") == "b/1"


def test_a_reload_changes_base_path_and_policy(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1, 2)
    write(tmp_path / "b", 2, 3)
    core.start(config_of(entry("m", tmp_path / "a")))
    assert ask(core, "m") == "a/2"
    core.reload(config_of(entry("m", tmp_path / "a", "model_version_policy { all {} }")), 60)
    assert (ask(core, "m", 1), ask(core, "m")) == ("a/1", "a/2")
    # Version 2 exists in both places: the new one must be loaded anyway.
    core.reload(config_of(entry("m", tmp_path / "b", "model_version_policy { all {} }")), 60)
    assert ask(core, "m", 3) == "b/3"
    assert ask(core, "m", 2) == "b/2"
    wait_for(lambda: states(core, "m") == {3: "AVAILABLE", 2: "AVAILABLE", 1: "END"}, 60, "the end of 1")


def test_a_base_path_that_changes_only_number_for_number(core: ServerCore[str], tmp_path: Path) -> None:
    """TensorFlow Serving keeps using the old directory here."""
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 1)
    core.start(config_of(entry("m", tmp_path / "a")))
    stop = threading.Event()
    seen: list[str] = []

    def use() -> None:
        while not stop.is_set():
            seen.append(ask(core, "m"))  # raises if there is a gap

    with ThreadPoolExecutor(2) as pool:
        users = [pool.submit(use) for _ in range(2)]
        core.reload(config_of(entry("m", tmp_path / "b")), 60)
        moved = ask(core, "m")
        stop.set()
        for user in users:
            user.result()
    assert moved == "b/1"
    assert set(seen) <= {"a/1", "b/1"}


def test_reports_for_the_previous_config_do_not_end_the_wait(tmp_path: Path) -> None:
    """Polls that started before a reload report the previous directory; they must be ignored."""
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 1)
    core: ServerCore[str] = ServerCore(FileLoader, options(file_system_poll_wait_seconds=0.0005))
    core.start(config_of(entry("m", tmp_path / "a")))
    for _ in range(60):
        for name in "ba":
            core.reload(config_of(entry("m", tmp_path / name)), 60)
            assert ask(core, "m") == f"{name}/1"
    assert core.stop(10)


def test_a_reload_fails_when_a_model_cannot_be_loaded(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    (tmp_path / "b" / "4").mkdir(parents=True)
    core.start(config_of(entry("a", tmp_path / "a")))
    both = config_of(entry("a", tmp_path / "a"), entry("b", tmp_path / "b"))
    assert refusal(core.reload, both, 60) == (
        "UNKNOWN: 1 model(s) did not become available: {{{name: b version: 4} due to error: "
        f"NOT_FOUND: no model in {tmp_path}/b/4}}, }}"
    )
    # It is in force anyway, as in TensorFlow Serving: a working version is loaded when it appears.
    assert ask(core, "a") == "a/1"
    write(tmp_path / "b", 5)
    wait_for(lambda: states(core, "b").get(5) == "AVAILABLE", 60, "version 5")


def test_a_reload_to_a_broken_base_path_fails_and_the_old_version_keeps_serving(
    core: ServerCore[str], tmp_path: Path
) -> None:
    write(tmp_path / "a", 1)
    (tmp_path / "b" / "2").mkdir(parents=True)
    core.start(config_of(entry("m", tmp_path / "a")))
    assert "no model in" in refusal(core.reload, config_of(entry("m", tmp_path / "b")), 60)
    assert ask(core, "m") == "a/1"
    assert states(core, "m") == {2: "END", 1: "AVAILABLE"}


def test_one_broken_version_of_several_does_not_block_the_start(tmp_path: Path) -> None:
    write(tmp_path / "a", 1, 3)
    (tmp_path / "a" / "2").mkdir()
    core: ServerCore[str] = ServerCore(FileLoader, options(max_num_load_retries=5, load_retry_interval=3600.0))
    core.start(config_of(entry("m", tmp_path / "a", "model_version_policy { all {} }")))
    assert (ask(core, "m", 1), ask(core, "m", 3)) == ("a/1", "a/3")
    error = core.monitor.versions("m")[2].error
    assert error is not None
    assert "no model in" in error.message
    assert core.stop(60)


def test_the_start_fails_when_a_model_cannot_be_loaded(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    (tmp_path / "b" / "4").mkdir(parents=True)
    failed = refusal(core.start, config_of(entry("a", tmp_path / "a"), entry("b", tmp_path / "b")))
    assert failed.startswith("UNKNOWN: 1 servable(s) did not become available: {{{name: b version: 4} due to error: ")


def test_a_reload_gives_up_after_its_time_but_stays_in_force(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    core.start(config_of(entry("a", tmp_path / "a")))
    (tmp_path / "empty").mkdir()
    both = config_of(entry("a", tmp_path / "a"), entry("b", tmp_path / "empty"))
    failed = refusal(core.reload, both, 1.0)
    assert failed.startswith("DEADLINE_EXCEEDED: ")
    assert failed.partition("not available yet: ")[2].startswith(
        f"b. No versions of servable b found under base path {tmp_path / 'empty'}. Did you forget"
    )
    write(tmp_path / "empty", 1)
    wait_for(lambda: states(core, "b") == {1: "AVAILABLE"}, 60, "b")


def test_a_reload_of_a_missing_path_says_so_at_once(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    core.start(config_of(entry("a", tmp_path / "a")))
    missing = tmp_path / "没有" / "nothere"
    both = config_of(entry("a", tmp_path / "a"), entry("z", missing))
    # It does not wait forever, although no deadline is given.
    assert refusal(core.reload, both, None) == (
        "UNKNOWN: the configuration is in force, but there is nothing to load: "
        f"Could not find base path {missing} for servable z: No such file or directory. Waiting for it to appear"
    )
    assert ask(core, "a") == "a/1"
    write(missing, 3)
    wait_for(lambda: states(core, "z") == {3: "AVAILABLE"}, 60, "z")
    # Earlier errors don't count.
    core.reload(config_of(entry("z", tmp_path / "a")), 60)
    assert ask(core, "z") == "a/1"


def test_a_client_is_answered_before_its_deadline() -> None:
    # By a tenth of its time, at most a second.
    assert [_margin(seconds) for seconds in (None, 1.0, 8.0, 300.0)] == pytest.approx([0, 0.1, 0.8, 1.0])


def test_a_reload_that_waits_in_vain_is_superseded(core: ServerCore[str], tmp_path: Path) -> None:
    """A mistaken base path must not lock the configuration forever."""
    write(tmp_path / "a", 1)
    core.start(config_of(entry("a", tmp_path / "a")))
    with ThreadPoolExecutor(1) as pool:
        (tmp_path / "empty").mkdir()
        mistaken = pool.submit(core.reload, config_of(entry("b", tmp_path / "empty")), None)
        wait_for(lambda: core.model_config("b") is not None, 60, "the first reload")
        core.reload(config_of(entry("b", tmp_path / "a")), 60)
        assert refusal(mistaken.result, 60).startswith("ABORTED: ")
    assert ask(core, "b") == "a/1"


def test_concurrent_reloads_both_succeed_when_both_are_applied(core: ServerCore[str], tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / name, 1)
    core.start(config_of(entry("a", tmp_path / "a")))
    hold = tmp_path / "b" / "1" / "wait.txt"
    hold.touch()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(core.reload, config_of(entry("b", tmp_path / "b")), 60)
        wait_for(lambda: states(core, "b") == {1: "LOADING"}, 60, "the load")
        second = pool.submit(core.reload, config_of(entry("b", tmp_path / "b"), entry("c", tmp_path / "c")), 60)
        wait_for(lambda: core.model_config("c") is not None, 60, "the second reload")
        hold.unlink()
        first.result(60)
        second.result(60)
    assert (ask(core, "b"), ask(core, "c")) == ("b/1", "c/1")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("a", "/x"), entry("a", "/y")], "INVALID_ARGUMENT: Illegal to list model a multiple times in config"),
        ([entry("", "/x")], "INVALID_ARGUMENT: Expected every model to have a name"),
        (
            [entry("a", "models/a")],
            "INVALID_ARGUMENT: Expected model a to have an absolute path or URI; got base_path()=models/a",
        ),
        ([entry("a", "")], "INVALID_ARGUMENT: Expected model a to have an absolute path or URI; got base_path()="),
        (
            [entry("a", "gs://bucket/a")],
            "INVALID_ARGUMENT: Base path gs://bucket/a of model a is not in a local file system",
        ),
        (['config { name: "a" base_path: "/x" }'], "INVALID_ARGUMENT: Illegal setting neither ModelServerConfig::"),
        (
            ['config { name: "a" base_path: "/x" model_platform: "tensorflow" model_type: TENSORFLOW }'],
            "INVALID_ARGUMENT: Illegal setting both ModelServerConfig::model_type (deprecated) and",
        ),
        (
            ['config { name: "a" base_path: "/x" model_type: OTHER }'],
            "INVALID_ARGUMENT: ModelServerConfig::model_type choice 2 not supported.",
        ),
        (
            ['config { name: "a" base_path: "/x" model_platform: "tensorflow_lite" }'],
            "INVALID_ARGUMENT: Model a requests unsupported platform tensorflow_lite",
        ),
        (
            [entry("a", "/x", "logging_config { sampling_config { attributes: 1 } }")],
            "INVALID_ARGUMENT: Model a: logging_config.sampling_config.attributes: TensorFlow Serving defines no",
        ),
        (
            [entry("a", "/x", 'version_labels { key: "stable" value: 3 }')],
            "FAILED_PRECONDITION: Request to assign label to version 3 of model a, which is not currently available "
            "for inference",
        ),
    ],
)
def test_refused_configs_leave_the_previous_one_in_force(
    core: ServerCore[str], tmp_path: Path, entries: list[str], message: str
) -> None:
    write(tmp_path / "served", 1)
    former = config_of(entry("served", tmp_path / "served"))
    core.start(former)
    assert refusal(core.reload, config_of(*entries), 60).startswith(message)
    assert core.config == former
    assert ask(core, "served") == "served/1"
    fresh: ServerCore[str] = ServerCore(FileLoader, options())
    assert refusal(fresh.start, config_of(*entries)).startswith(message)


def test_the_deprecated_model_type_still_works(
    core: ServerCore[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    write(tmp_path / "a", 1)
    core.start(config_of(f'config {{ name: "a" base_path: "{tmp_path}/a" model_type: TENSORFLOW }}'))
    assert ask(core, "a") == "a/1"
    assert "Deprecated ModelServerConfig::model_type field used" in caplog.text


def test_other_kinds_of_config(core: ServerCore[str], tmp_path: Path) -> None:
    custom = model_server_config_pb2.ModelServerConfig()
    custom.custom_model_config.Pack(model_pb2.ModelSpec(name="x"))
    nothing = model_server_config_pb2.ModelServerConfig()
    assert refusal(ServerCore(FileLoader, options()).start, custom) == f"INVALID_ARGUMENT: {NO_LIST}"
    core.start(nothing)  # an empty file: no action, a later configuration is accepted
    write(tmp_path / "a", 1)
    core.reload(config_of(entry("a", tmp_path / "a")), 60)
    for other in (custom, nothing):
        assert refusal(core.reload, other, 60) == (
            "FAILED_PRECONDITION: Cannot transition to requested config. It is only legal to transition from one "
            "ModelConfigList to another."
        )
    assert ask(core, "a") == "a/1"


def test_the_platform_of_a_model_cannot_be_changed(tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    core: ServerCore[str] = ServerCore(FileLoader, options(platforms=("tensorflow", "other")))
    core.start(config_of(entry("a", tmp_path / "a")))
    other = config_of(f'config {{ name: "a" base_path: "{tmp_path}/a" model_platform: "other" }}')
    assert refusal(core.reload, other, 60) == (
        "INVALID_ARGUMENT: Illegal to change a model's platform. For model a platform was tensorflow and new platform "
        "requested is other"
    )
    assert core.stop(60)


def test_base_paths_may_be_file_uris(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "模型 a", 1)
    core.start(config_of(entry("a", (tmp_path / "模型 a").as_uri())))
    assert ask(core, "a") == "模型 a/1"


LABELLED = 'version_labels {{ key: "{0}" value: {1} }}'


def labelled(base_path: Path, **labels: int) -> Any:
    more = " ".join(LABELLED.format(label, version) for label, version in labels.items())
    return config_of(entry("m", base_path, f"model_version_policy {{ all {{}} }} {more}"))


def test_labels_point_to_available_versions(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "m", 1, 2)
    core.start(labelled(tmp_path / "m"))
    assert refusal(ask, core, "m", None, "stable") == "INVALID_ARGUMENT: Unrecognized servable version label: stable"
    core.reload(labelled(tmp_path / "m", stable=1, canary=2), 60)
    assert (ask(core, "m", label="stable"), ask(core, "m", label="canary")) == ("m/1", "m/2")
    core.reload(labelled(tmp_path / "m", stable=2), 60)
    assert ask(core, "m", label="stable") == "m/2"
    assert refusal(ask, core, "m", None, "canary").startswith("INVALID_ARGUMENT: Unrecognized")
    # Version 3 exists, but is not yet loaded when the configuration arrives.
    (tmp_path / "m" / "3").mkdir()
    assert refusal(core.reload, labelled(tmp_path / "m", stable=3), 60) == (
        "FAILED_PRECONDITION: Request to assign label to version 3 of model m, which is not currently available for "
        "inference (label 'stable'). Remedy: load that version first; a label that is in use can't be moved to one "
        "that is not there"
    )
    new = refusal(core.reload, labelled(tmp_path / "m", stable=2, 新的=9), 60)
    assert "(label '新的')" in new
    assert new.endswith("--allow_version_labels_for_unavailable_models, which lets new labels point to others")
    assert ask(core, "m", label="stable") == "m/2"
    assert refusal(ask, core, "m", None, "") == "INVALID_ARGUMENT: Unrecognized servable version label: "


def test_new_labels_may_point_to_unavailable_versions_when_that_is_allowed(tmp_path: Path) -> None:
    write(tmp_path / "m", 1, 2)
    core: ServerCore[str] = ServerCore(FileLoader, options(allow_version_labels_for_unavailable_models=True))
    core.start(labelled(tmp_path / "m", stable=1, future=9))
    assert ask(core, "m", label="stable") == "m/1"
    assert refusal(ask, core, "m", None, "future") == "NOT_FOUND: Servable not found for request: Specific(m, 9)"
    # Even then, a label in use may not be moved to an unavailable version.
    assert refusal(core.reload, labelled(tmp_path / "m", stable=8), 60).startswith("FAILED_PRECONDITION: ")
    core.reload(labelled(tmp_path / "m", stable=2, later=7), 60)
    assert ask(core, "m", label="stable") == "m/2"
    write(tmp_path / "m", 7)
    wait_for(lambda: states(core, "m").get(7) == "AVAILABLE", 60, "version 7")
    assert ask(core, "m", label="later") == "m/7"
    assert core.stop(60)


def test_logging_configs(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    sampled = "logging_config { sampling_config { sampling_rate: 0.5 } }"
    core.start(config_of(entry("a", tmp_path / "a", sampled), entry("b", tmp_path / "a")))
    logging_config = core.logging_config("a")
    assert logging_config is not None
    assert logging_config.sampling_config.sampling_rate == 0.5
    assert core.logging_config("b") is None
    assert core.logging_config("c") is None
    core.reload(config_of(entry("a", tmp_path / "a")), 60)
    assert core.logging_config("a") is None


def test_the_config_in_force_is_a_copy(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    config = config_of(entry("a", tmp_path / "a"))
    core.start(config)
    config.model_config_list.config[0].name = "changed"
    in_force = core.model_config("a")
    assert in_force is not None
    assert in_force.name == "a"
    assert [model.name for model in core.config.model_config_list.config] == ["a"]


def test_the_monitor_covers_all_models(core: ServerCore[str], tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 2)
    core.start(config_of(entry("b", tmp_path / "b"), entry("a", tmp_path / "a")))
    assert {name: [*versions] for name, versions in core.monitor.all().items()} == {"a": [1], "b": [2]}


def test_polling_once_still_polls_after_a_reload(tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 1)
    core: ServerCore[str] = ServerCore(FileLoader, options(file_system_poll_wait_seconds=0))
    core.start(config_of(entry("a", tmp_path / "a")))
    core.reload(config_of(entry("a", tmp_path / "a"), entry("b", tmp_path / "b")), 60)
    assert ask(core, "b") == "b/1"
    assert core.stop(60)


def test_stopping_ends_the_wait_for_a_model_that_never_comes(core: ServerCore[str], tmp_path: Path) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(core.start, config_of(entry("a", tmp_path / "missing")), stop.is_set)
        wait_for(lambda: core.model_config("a") is not None, 60, "the start")
        assert not starting.done()
        stop.set()
        starting.result(60)
