"""The digests of a version's files."""

import hashlib
import json
from pathlib import Path

import pytest

from serving import manifest
from tests.serving.models import copy_version


def test_a_manifest_has_the_digest_of_each_file(exports: dict[int, Path], tmp_path: Path) -> None:
    path = copy_version(exports[1], tmp_path / "1")
    manifest.write(path)
    manifest.write(path)  # an existing manifest is not a file of the version
    files = json.loads((path / "assets.extra" / "manifest.json").read_bytes())["files"]
    assert files == {
        file.relative_to(path).as_posix(): {
            "bytes": len(file.read_bytes()),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in path.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }
    assert {"saved_model.pb", "variables/variables.index"} <= files.keys()
    (path / "assets.extra" / "added_later.txt").write_text("allowed")
    (path / "saved_model.pb").touch()
    assert manifest.wrong_size(path) == manifest.wrong_digest(path) == ""
    content = (path / "fingerprint.pb").read_bytes()
    (path / "fingerprint.pb").write_bytes(content[::-1])
    assert manifest.wrong_size(path) == ""
    assert manifest.wrong_digest(path).startswith("fingerprint.pb is damaged or was changed: its SHA-256 is ")
    (path / "fingerprint.pb").write_bytes(content + b".")
    assert manifest.wrong_size(path) == f"fingerprint.pb has {len(content) + 1} of {len(content)} bytes"
    (path / "fingerprint.pb").unlink()
    assert manifest.wrong_size(path) == "fingerprint.pb is missing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"files": {"saved_model.pb"', "is cut short or damaged"),
        ("[]", "not a manifest written by"),
        ('{"files": {"../2/saved_model.pb": {"bytes": 1, "sha256": ""}}}', "is outside the version"),
        ('{"files": {"/etc/hostname": {"bytes": 1, "sha256": ""}}}', "is outside the version"),
    ],
)
def test_an_invalid_manifest(exports: dict[int, Path], tmp_path: Path, content: str, message: str) -> None:
    path = copy_version(exports[1], tmp_path / "1")
    manifest.write(path).write_text(content)
    assert message in manifest.wrong_size(path)
