"""Which part of the code may import which."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.source import imports, private_uses

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("trainer", "serving", "benchmarks")
# Lowest first: a package imports those before it, and itself.
_TRAINER = ("data", "text", "scorers", "towers", "models", "evaluation", "training", "export")
_SERVER = ("values", "options", "errors", "operations", "execution", "api", "lifecycle", "rest")
# What is not here is a command, and imports all of them; pages for browsers are files that `api` serves.
_SERVICE = (
    *("types", "errors", "recommendation", "options", "snippet", "console"),
    *("store", "outcomes", "rollout", "rules", "diversity", "recommender", "api"),
)
_BENCHMARKS = ("harness", "baselines", "speed", "quality", "simulation", "loop", "scale", "scenes")


def modules() -> dict[str, Path]:
    found = {}
    for package in _PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def project_imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the project that a module imports as it is loaded."""
    for module, names in imports(path, at_load=True):
        full = [f"{module}.{name}" for name in names]
        yield from (name for name in full if name in known)
        if module in known and (not names or any(name not in known for name in full)):
            yield module


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {module: set(project_imports(path, known)) - {module} for module, path in known.items()}


def test_serving_never_imports_trainer(graph: Mapping[str, set[str]]) -> None:
    assert not [
        (module, other)
        for module, others in graph.items()
        for other in others
        if module.startswith("serving") and other.partition(".")[0] != "serving"
    ]


def test_training_does_not_need_the_service_s_packages(graph: Mapping[str, set[str]]) -> None:
    """They are an extra: `make demo` installs what training needs alone, `make live` and updates both."""
    updating = (f"trainer.updating.{name}" for name in ("snapshot", "update", "loop", "outcomes"))
    both = {"trainer.live", "trainer.live_trial", *updating}
    assert {
        other
        for module, others in graph.items()
        for other in others
        if module.startswith("trainer.") and module not in both and other.startswith("serving.service")
    } <= {"serving.service.types"}


def test_nothing_imports_in_circles(graph: Mapping[str, set[str]]) -> None:
    left = {module: set(others) for module, others in graph.items()}
    while leaves := [module for module, others in left.items() if not others & left.keys()]:
        for module in leaves:
            del left[module]
    assert not left


def test_the_trainer_s_folders_import_in_one_direction(graph: Mapping[str, set[str]]) -> None:
    def part(module: str) -> str:
        return module.partition(".")[2].partition(".")[0]

    # Settings are put together by `trainer.config`, and each part's are open to all.
    members = {m for m in graph if m.startswith("trainer.") and part(m) in _TRAINER and not m.endswith(".settings")}
    assert not [
        (module, other)
        for module in members
        for other in graph[module] & members
        if _TRAINER.index(part(other)) > _TRAINER.index(part(module))
    ]


def test_the_server_s_folders_import_in_one_direction(graph: Mapping[str, set[str]]) -> None:
    def place(module: str) -> int:
        part = module.removeprefix("serving.server.").partition(".")[0]
        return _SERVER.index(part) if part in _SERVER else len(_SERVER)

    assert not [
        (module, other)
        for module, others in graph.items()
        for other in others
        if module.startswith("serving.server.") and other.startswith("serving.server.") and place(other) > place(module)
    ]


def test_the_service_s_folders_import_in_one_direction(graph: Mapping[str, set[str]]) -> None:
    def part(module: str) -> str:
        return module.removeprefix("serving.service").removeprefix(".").partition(".")[0]

    def place(module: str) -> int:
        return _SERVICE.index(part(module)) if part(module) in _SERVICE else len(_SERVICE)

    found = [
        (module, other)
        for module, others in graph.items()
        for other in others
        if module.startswith("serving.service") and other.startswith("serving.service.")
        # A part's settings are open to all, since options have their defaults.
        if not other.endswith(".settings")
    ]
    assert [(m, other) for m, other in found if place(other) == place(m)]
    assert not [(m, other) for m, other in found if place(other) > place(m)]
    # The interface knows the recommender by its protocol only.
    assert not [(m, other) for m, other in found if (part(m), part(other)) == ("api", "recommender")]


def test_the_service_knows_the_model_server_by_the_client_only(graph: Mapping[str, set[str]]) -> None:
    own = ("serving.service", "serving.client", "serving.contract", "serving.arguments", "serving.tensors")
    assert not [
        (module, other)
        for module, others in graph.items()
        for other in others
        if module.startswith("serving.service") and not other.startswith(own)
    ]


def test_the_benchmarks_folders_import_in_one_direction(graph: Mapping[str, set[str]]) -> None:
    def place(module: str) -> int:
        return _BENCHMARKS.index(module.split(".")[1])

    folders = {module for module in graph if module.startswith("benchmarks.")}
    assert not [(m, other) for m in folders for other in graph[m] & folders if place(other) > place(m)]
    assert not [m for m, others in graph.items() if m not in folders and others & folders]


def test_private_parts_of_others_are_used_in_one_place() -> None:
    # The C library of the front is serving's own, and protoc writes what it likes.
    own = {ROOT / "serving/native/library.py": "ctypes.CDLL"}
    found = [
        f"{path.relative_to(ROOT)}:{use}"
        for path in sorted((ROOT / "serving").rglob("*.py"))
        if path.parent != ROOT / "serving/private" and not path.stem.endswith(("_pb2", "_pb2_grpc"))
        for use in private_uses(path, ("serving",))
        if not use.endswith(f": {own.get(path)}")
    ]
    assert found == []


@pytest.mark.parametrize(("pattern", "file"), [("grpc_core", "entry.h"), ("dlsym", "tensorflow.cc")])
def test_private_parts_of_others_are_declared_in_one_place(pattern: str, file: str) -> None:
    sources = (ROOT / "serving/native/src").iterdir()
    assert [path.name for path in sources if pattern in path.read_text(encoding="utf-8")] == [file]


def test_private_parts_are_noticed(tmp_path: Path) -> None:
    uses = [
        "from google.protobuf.internal import builder",
        "from grpc import _server",
        "import tensorflow.python.client",
        "import _socket",
        "ctypes.CDLL(None)",
        "server._state.stage",
        "call = '_ZN3tsl15ProfilerSession6StatusEv'",
        "vars(call)['experimental_thread_pool'] = 1",
    ]
    path = tmp_path / "module.py"
    path.write_text(
        "\n".join([*uses, "from serving._version import a", "os._exit(1)", "row._replace(a=1)", "self._a = 1"])
    )
    lines = sorted(int(use.partition(":")[0]) for use in private_uses(path, ("serving",)))
    assert lines == [*range(1, len(uses) + 1)]


def test_what_is_private_depends_on_nothing_else(graph: Mapping[str, set[str]]) -> None:
    lower = ("serving.private", "serving.protos", "serving.tensors")
    assert not [
        (module, other)
        for module, others in graph.items()
        for other in others
        if module.startswith("serving.private") and not other.startswith(lower)
    ]


@pytest.mark.parametrize(
    "module",
    [
        "trainer.task",
        "trainer.runs",
        "trainer.settings_reference",
        "trainer.evaluation.report.compare_output",
        "trainer.evaluation.protocols.registry",
        "serving.client",
        "serving.server.flags",
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(module: str) -> None:
    heavy = {"tensorflow", "matplotlib", "sklearn", "scipy", "pandas"}
    program = f"import sys, {module}; print(*sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
