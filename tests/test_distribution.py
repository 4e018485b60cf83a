"""What people get who install or unpack Babelrec: all of it, with its licences."""

import email
import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tomllib
from email.message import Message
from pathlib import Path

import pytest

from tests.source import imported_packages

_ROOT = Path(__file__).resolve().parents[1]


def _tracked() -> list[str]:
    if not (_ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs git and a checkout")
    listing = subprocess.run(
        ["git", "-C", str(_ROOT), "ls-files", "-z", "--cached"], check=True, capture_output=True, text=True
    )
    # Deleted and not yet committed is no fault of the list.
    return [name for name in listing.stdout.split("\0") if name and (_ROOT / name).exists()]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A copy of what git tracks, to build in: the checkout itself is in use by other tests."""
    names, copy = _tracked(), tmp_path_factory.mktemp("sources")
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_ROOT / name, copy / name)
    return copy, names


def _build(directory: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *command], cwd=directory, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _check_metadata(metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0 AND OFL-1.1"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE", "trainer/evaluation/report/font_files/OFL.txt"]
    assert metadata["Author"] == "Babelrec's authors"
    # PEP 639: no classifier beside the expression.
    assert not any(each.startswith("License ::") for each in metadata.get_all("Classifier") or [])


def test_a_source_distribution_holds_all_that_git_tracks(sources: tuple[Path, list[str]]) -> None:
    directory, names = sources
    _build(directory, "sdist", "--formats=gztar", "--dist-dir=out")
    (archive,) = (directory / "out").iterdir()
    with tarfile.open(archive) as held:
        files = {member.name.partition("/")[2]: member for member in held.getmembers() if member.isfile()}
        packed = held.extractfile(next(member for name, member in files.items() if name == "PKG-INFO"))
        assert packed is not None
        _check_metadata(email.message_from_bytes(packed.read()))
        assert sorted(set(names) - files.keys()) == []
        made = {name for name in files if not name.startswith("babelrec.egg-info/")} - set(names)
        assert made == {"PKG-INFO", "setup.cfg"}
        # CI's script must still be a program.
        assert files[".ci/run"].mode & 0o100


def test_a_wheel_holds_the_packages_and_their_licences(sources: tuple[Path, list[str]]) -> None:
    directory, names = sources
    # Not a whole wheel: compiling the native front takes a minute and changes nothing here.
    _build(directory, "build_py", "--build-lib=built")
    built = {path.relative_to(directory / "built").as_posix() for path in (directory / "built").rglob("*.*")}
    modules = {name for name in names if name.startswith(("trainer/", "serving/")) and name.endswith(".py")}
    assert modules <= built
    for extra in ("serving/deploy/compose.yaml", "serving/native/src/front.cc", "trainer/py.typed"):
        assert extra in built
    fonts = {name for name in names if name.startswith("trainer/evaluation/report/font_files/")}
    assert len(fonts) == 12
    assert fonts <= built
    _build(directory, "dist_info")
    (info,) = directory.glob("*.dist-info")
    _check_metadata(email.message_from_bytes((info / "METADATA").read_bytes()))


def test_the_licence_is_apaches_and_whole() -> None:
    licence = (_ROOT / "LICENSE").read_text(encoding="utf-8")
    for part in (
        "Apache License\n",
        "Version 2.0, January 2004",
        "9. Accepting Warranty",
        "END OF TERMS AND CONDITIONS",
    ):
        assert part in licence


def test_what_each_part_needs() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras, base = project["optional-dependencies"], set(project["dependencies"])
    # The client's part is what is always installed: nothing of TensorFlow.
    assert not any(name.startswith(("tensorflow", "scann", "tf")) for name in base)
    assert extras["client"] == []
    listed = (_ROOT / "serving" / "deploy" / "babelrec" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {line for line in listed if not line.startswith("#")} == base | {*extras["serving"], *extras["tflite"]}
    owners = importlib.metadata.packages_distributions()
    shared = [_ROOT / "serving" / name for name in ("contract.py", "protos.py", "tensors.py")]
    for path in [*(_ROOT / "serving" / "client").rglob("*.py"), *shared]:
        for module in imported_packages(path) - {*sys.stdlib_module_names, "serving"}:
            assert base & {owner.replace("_", "-") for owner in owners[module]}, f"{path} imports {module}"
