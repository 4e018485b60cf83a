"""The digests of a version's files: ``assets.extra/manifest.json``, which TensorFlow Serving ignores.

    python -m serving.manifest models/recommender/7

rewrites it after an intended change.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

FILE = Path("assets.extra") / "manifest.json"


def write(directory: Path) -> Path:
    """Writes the manifest of all files now below a version directory; returns its path."""
    path = directory / FILE
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file != path)
    content = {
        "schema": 1,
        "files": {
            file.relative_to(directory).as_posix(): {"bytes": file.stat().st_size, "sha256": _digest(file)}
            for file in files
        },
    }
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def wrong_size(directory: Path) -> str:
    """The first file that is missing or has another size than in the manifest; empty when there is none.

    Files that are not in the manifest are allowed.
    """
    try:
        files = _read(directory)
        for name, (size, _) in files.items():
            problem = size_problem(directory, name, size)
            if problem:
                return problem
    except ValueError as error:
        return f"{FILE} is cut short or damaged ({error})"
    return ""


def wrong_digest(directory: Path) -> str:
    """The first file whose digest differs from the manifest, as a sentence; empty when there is none."""
    for name, (_, digest) in _read(directory).items():
        found = _digest(directory / name)
        if found != digest:
            return f"{name} is damaged or was changed: its SHA-256 is {found}, {FILE} says {digest}"
    return ""


def size_problem(directory: Path, name: str, size: int, *, at_least: bool = False) -> str:
    """What is wrong with the size of a file, as a sentence; empty when nothing is."""
    path = directory / name
    if not path.is_file():
        return f"{name} is missing"
    found = path.stat().st_size
    if found < size or (found > size and not at_least):
        return f"{name} has {found} of {size} bytes"
    return ""


def _read(directory: Path) -> Mapping[str, tuple[int, str]]:
    """Size and digest of each file; raises ValueError for a malformed manifest."""
    content = json.loads((directory / FILE).read_bytes())
    try:
        files = {str(name): (int(file["bytes"]), str(file["sha256"])) for name, file in content["files"].items()}
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not a manifest written by `python -m serving.manifest`") from None
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name!r} is outside the version")
    return files


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m serving.manifest VERSION_DIRECTORY", file=sys.stderr)
        return 2
    print(write(Path(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
