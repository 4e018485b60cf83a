"""What a start reports about libraries that lack what the server uses."""

import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import _server

from serving.private import grpcio, op_libraries, probe, profiling, tensorflow
from serving.private.interfaces import Interface, MissingInterfaceError
from serving.server.lifecycle.health import add_health
from serving.server.lifecycle.states import ServableStateMonitor

_ROOT = Path(__file__).resolve().parents[3]


def test_the_installed_versions_have_everything(caplog: pytest.LogCaptureFixture) -> None:
    assert [problem for interface in probe.INTERFACES if (problem := interface.problem())] == []
    probe.check()
    assert not caplog.records


def test_every_interface_says_what_is_known_to_work() -> None:
    assert all(interface.works and interface.purpose for interface in probe.INTERFACES)


def test_a_missing_function_of_the_c_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tensorflow.SIGNATURES, "TF_NoSuchFunction", (None, []))
    with pytest.raises(MissingInterfaceError) as caught:
        probe.check()
    assert str(caught.value) == (
        f"tensorflow {version('tensorflow')} lacks TF_NoSuchFunction, needed to run models; known to work: 2.20. "
        "The server does not start"
    )


def test_a_server_does_not_start_without_a_function() -> None:
    program = (
        "import sys; from serving.private import tensorflow; from serving.server.main import main; "
        "tensorflow.SIGNATURES['TF_NoSuchFunction'] = (None, []); "
        "sys.exit(main(['--port=0', '--model_base_path=/none']))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if "TF_NoSuchFunction" in line]
    assert len(lines) == 1, ended.stderr
    assert "Failed to start server. Error: tensorflow" in lines[0]
    assert "Traceback" not in ended.stderr


def test_without_the_profiler_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    functions: dict[str, tuple[str, None, list[object]]] = {
        name: (f"_ZNoSuch{place}", None, []) for place, name in enumerate(profiling._FUNCTIONS)
    }
    monkeypatch.setattr(profiling, "_FUNCTIONS", functions)
    profiling._runtime.cache_clear()
    caplog.set_level(logging.WARNING)
    probe.check()
    (record,) = caplog.records
    assert record.getMessage() == (
        f"tensorflow {version('tensorflow')} lacks _ZNoSuch0, _ZNoSuch1, _ZNoSuch2 and {len(functions) - 3} more, "
        "needed to profile; known to work: 2.20. The profiler answers UNIMPLEMENTED"
    )
    with pytest.raises(MissingInterfaceError, match="_ZNoSuch0"), profiling.session(b""):
        pass


def test_without_watches_the_health_service_answers_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[grpc.GenericRpcHandler[Any, Any]] = []

    class Server:
        def add_generic_rpc_handlers(self, handlers: "tuple[grpc.GenericRpcHandler[Any, Any]]") -> None:
            added.extend(handlers)

    monkeypatch.setattr(_server, "_stream_response_in_pool", lambda: None)
    assert not grpcio.can_answer_later()
    add_health(Server(), ServableStateMonitor())  # type: ignore[arg-type]
    (handler,) = added
    methods = handler._method_handlers  # type: ignore[attr-defined]
    assert list(methods) == ["/grpc.health.v1.Health/Check"]


def test_methods_are_registered_where_that_is_possible() -> None:
    class Older:
        pass

    grpcio.register_methods(Older(), "a.Service", {})  # type: ignore[arg-type]


def test_op_libraries_in_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = op_libraries.OpLibraries("tensorflow-text", "elsewhere/*.so")
    monkeypatch.setattr(op_libraries, "DEFAULTS", {**op_libraries.DEFAULTS, "tensorflow_text": moved})
    assert [each.package for each in op_libraries.INTERFACES if each.problem()] == ["tensorflow-text"]


def test_a_library_that_is_not_installed() -> None:
    missing = Interface("no-such-package", "1.0", "for nothing", lambda: ["a", "b"], "All is well")
    assert missing.problem() == (
        "no-such-package (not installed) lacks a, b, needed for nothing; known to work: 1.0. All is well"
    )
