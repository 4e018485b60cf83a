"""Files by path, directory, glob and URI; writing that appears as a whole."""

from pathlib import Path

import pytest

from trainer.data.dataset import HEADER, DatasetExistsError
from trainer.data.faults import DatasetError
from trainer.data.sources.parts import part_files
from trainer.data.spark.places import building, fetched, files_of, for_spark, is_local, joined, put
from trainer.errors import BabelrecError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Part files as Spark writes them, with a name that sorts otherwise as text than as a path."""
    root = tmp_path / "событий 事件"
    for name in (
        "part-2.csv",
        "part-10.csv",
        "a/part-1.csv",
        "a-b/part-1.csv",
        "_SUCCESS",
        ".part-2.csv.crc",
        "_t/x.csv",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / "part-3.csv").write_text("")
    return root


def test_the_files_of_a_directory_are_those_of_one_machine_in_its_order(folder: Path) -> None:
    expected = [str(file) for file in part_files(folder)]
    assert len(expected) == 4
    assert files_of(str(folder)) == expected
    assert files_of(f"{folder}/") == expected


def test_a_glob_and_a_file(folder: Path) -> None:
    assert files_of(f"{folder}/part-*.csv") == [f"{folder}/part-10.csv", f"{folder}/part-2.csv"]
    assert files_of(f"{folder}/a*/part-1.csv") == [f"{folder}/a/part-1.csv", f"{folder}/a-b/part-1.csv"]
    assert files_of(f"{folder}/part-2.csv") == [f"{folder}/part-2.csv"]
    for place in (f"{folder}/nothing-*", f"{folder}/missing"):
        with pytest.raises(DatasetError):
            files_of(place)


def test_a_uri_of_this_machine_is_a_path(folder: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "x.csv").write_text("1")
    assert is_local(f"file://{plain}")
    assert fetched(f"file://{plain}/x.csv", folder) == plain / "x.csv"
    assert for_spark(f"{plain}/x.csv") == f"file://{plain}/x.csv"
    assert not is_local("gs://anonymous@bucket/x")
    with pytest.raises(BabelrecError, match="Remedy: give a path, or a gs://"):
        is_local("ftp://host/file")


def test_what_is_put_replaces_the_whole_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", joined(str(tmp_path), "new", "target")
    for content in ("first", "2"):
        source.write_text(content)
        put(source, target)
        assert Path(target).read_text() == content
    assert [file.name for file in Path(target).parent.iterdir()] == ["target"]


def test_a_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), building(str(output)) as place:
        Path(place, "part").write_text("")
        raise ZeroDivisionError
    assert not output.exists()
    with building(str(output)) as place:
        Path(place, HEADER).write_text("")
        assert not output.exists()
    assert (output / HEADER).exists()
    with pytest.raises(DatasetExistsError), building(str(output)):
        pass
    with pytest.raises(BabelrecError, match="would expand"), building(str(tmp_path / "a[1]")):
        pass
