"""The model server's configuration file."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from serving.labels import ConfigError, ModelVersions, create_config, write_versions
from serving.protos import model_server_config_pb2

_TEXT = """
# Both models.
model_config_list {
  config {
    name: "추천"
    base_path: "/models/추천"
    model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 1 } }
    version_labels { key: "old" value: 7 }
  }
  config {
    name: "other"
    base_path: "/models/other"
    model_platform: "tensorflow"
    version_labels { key: "stable" value: 3 }
  }
}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "models.config"
    found.write_text(_TEXT, "utf-8")
    found.chmod(0o640)
    return found


def test_one_entry_changes(path: Path) -> None:
    assert ModelVersions.read(path, "추천") == ModelVersions(frozenset(), {"old": 7})
    write_versions(path, "추천", [2, 1], {"stable": 1, "canary": 2})
    assert ModelVersions.read(path, "추천") == ModelVersions(frozenset({1, 2}), {"stable": 1, "canary": 2})
    expected = _TEXT.replace("latest { num_versions: 1 }", "specific { versions: [1, 2] }").replace(
        'version_labels { key: "old" value: 7 }',
        'version_labels { key: "canary" value: 2 } version_labels { key: "stable" value: 1 }',
    )
    parse = text_format.Parse
    assert parse(path.read_text("utf-8"), model_server_config_pb2.ModelServerConfig()) == parse(
        expected, model_server_config_pb2.ModelServerConfig()
    )
    assert "추천" in path.read_text("utf-8")
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "모델.config"
    create_config(path, "추천", "/models/추천")
    assert ModelVersions.read(path, "추천") == ModelVersions(frozenset(), {})
    write_versions(path, "추천", [3], {"stable": 3})
    found = text_format.Parse(path.read_text("utf-8"), model_server_config_pb2.ModelServerConfig())
    (entry,) = found.model_config_list.config
    assert (entry.name, entry.base_path, entry.model_platform) == ("추천", "/models/추천", "tensorflow")
    assert ModelVersions.read(path, "추천") == ModelVersions(frozenset({3}), {"stable": 3})
    with pytest.raises(ConfigError, match="is there already"):
        create_config(path, "추천", "/other")


def test_mistakes_change_nothing(path: Path) -> None:
    for versions, labels in (([], {}), ([1], {"canary": 2})):
        with pytest.raises(ConfigError, match="Remedy"):
            write_versions(path, "추천", versions, labels)
    with pytest.raises(ConfigError, match="0 entries"):
        write_versions(path, "absent", [1], {})
    assert path.read_text("utf-8") == _TEXT
    for content in (b"model_config_list { config {", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="Remedy"):
            ModelVersions.read(path, "추천")
    with pytest.raises(ConfigError, match="No such file"):
        ModelVersions.read(path.with_name("absent"), "추천")
