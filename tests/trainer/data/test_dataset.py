"""The dataset format: what it keeps, and one clear error per fault."""

import hashlib
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from tests.trainer.data import builders
from trainer.data.dataset import HEADER, Dataset, write_dataset
from trainer.data.faults import DatasetError, Origin
from trainer.errors import BabelrecError


@pytest.fixture
def whole(tmp_path: Path) -> Dataset:
    return builders.write(
        tmp_path / "whole",
        items=builders.items(price=[1.5, None, 3.0], image=[[0.5, 1.0], None, [2.0, -1.0]]).cast(
            {"image": pl.List(pl.Float32)}
        ),
        users=builders.users(),
        translations=builders.translations(),
    )


def test_what_is_written_is_read_back(whole: Dataset) -> None:
    read = Dataset.load(whole.path)
    assert read == whole
    assert (read.name, read.description, read.licence, read.homepage) == ("small", "d", "l", "h")
    assert read.rows == {"interactions": 4, "items": 3, "users": 2, "translations": 2}
    assert_frame_equal(read.interactions().collect(), builders.interactions())
    assert_frame_equal(read.items().select(builders.items().columns).collect(), builders.items())
    assert read.users() is not None
    further = read.translations()
    assert further is not None
    assert further.collect()["title"].to_list() == builders.translations()["title"].to_list()


def test_optional_tables_may_be_absent(tmp_path: Path) -> None:
    dataset = Dataset.load(builders.write(tmp_path / "d").path)
    assert dataset.users() is None
    assert dataset.translations() is None


def test_context_columns_are_kept(tmp_path: Path) -> None:
    table = builders.interactions(
        device=["phone", None, "tv", "phone"],
        impression_id=["i", None, "i", "i"],
        position=pl.Series([1, 2, None, 4], dtype=pl.Int32),
        language=["pt-BR", None, "en", "zh-Hant"],
    )
    dataset = builders.write(tmp_path / "d", interactions=table)
    assert_frame_equal(dataset.interactions().collect(), table)


def test_the_fingerprint_depends_on_content_alone(tmp_path: Path) -> None:
    first = builders.write(tmp_path / "first", users=builders.users())
    second = tmp_path / "second"
    second.mkdir()
    for table in ("interactions", "items", "users"):
        frame = pl.read_parquet(first.path / f"{table}.parquet")
        # Other row groups, compression and column order.
        frame.select(reversed(frame.columns)).write_parquet(
            second / f"{table}.parquet", row_group_size=1, compression="uncompressed"
        )
    (second / HEADER).write_text((first.path / HEADER).read_text())
    assert Dataset.load(second).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        builders.interactions(value=[4.5, None, None, 19.9]),
        builders.interactions(value=[None, None, 4.0, 19.9], event=["view", "view", "click", "purchase"]),
        builders.interactions(user_id=["u1u", "1", "u2", "ü3"]),
        builders.interactions().reverse(),
        builders.interactions().head(3),
        builders.interactions(note=["", "", "", ""]),
        builders.interactions(note=[None, "", "", ""]),
    ],
)
def test_the_fingerprint_reflects_every_change(tmp_path: Path, changed: pl.DataFrame) -> None:
    plain = builders.write(tmp_path / "plain").fingerprint
    assert re.fullmatch("[0-9a-f]{64}", plain)
    empty_notes = builders.write(tmp_path / "n", interactions=builders.interactions(note=["", "", "", "x"]))
    got = builders.write(tmp_path / "changed", interactions=changed).fingerprint
    assert got not in (plain, empty_notes.fingerprint)


def test_the_fingerprint_is_the_same_on_every_machine(tmp_path: Path) -> None:
    """Worked by hand from the description: SHA-256 of shapes and values, column by column."""

    def sha(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little", signed=True)

    from trainer.data.fingerprint import fingerprint

    path = tmp_path / "t.parquet"
    pl.DataFrame({"s": ["é", None], "n": [7, None], "l": [["x"], []]}).write_parquet(path)
    string = sha(b"string:", sha(number(2) + number(-1)), sha("é".encode()))
    integer = sha(b"int64:", sha(b"\x00\x01"), sha(number(7)))
    inner = sha(b"string:", sha(number(1)), sha(b"x"))
    nested = sha(b"list:", sha(number(1) + number(0)), sha(), inner)
    table = sha(b"1:l=" + nested, b"1:n=" + integer, b"1:s=" + string)
    assert fingerprint({"t": [path]}) == hashlib.sha256(b"babelrec dataset 1\nt\n" + table).hexdigest()


def error_of(path: Path, **tables: pl.DataFrame) -> str:
    """The error of writing these tables; checks that nothing is left behind."""
    with pytest.raises(BabelrecError) as caught:
        builders.write(path / "d", **tables)
    assert list(path.iterdir()) == [], "a half-written dataset was left"
    text = str(caught.value)
    assert "Remedy: " in text
    assert "\n" not in text
    return text


FAULTS = {
    "missing column": (
        {"interactions": builders.interactions().rename({"timestamp": "time_stamp"})},
        ["`timestamp` is missing", "rename `time_stamp`"],
    ),
    "wrong type": (
        {"interactions": builders.interactions().cast({"timestamp": pl.Float64})},
        ["`timestamp`", "Float64", "cast it to Int64"],
    ),
    "integer ids": (
        {"items": builders.items(item_id=[1, 2, 3])},
        ["`item_id`", "Int64", "cast it to String"],
    ),
    "unsupported type": (
        {"items": builders.items(when=[None, None, None]).cast({"when": pl.Date})},
        ["`when`", "Date", "not supported"],
    ),
    "unknown event": (
        {"interactions": builders.interactions(event=["rating", "view", "klick", "view"])},
        ["`event`, row 3", "'klick'", "did you mean 'click'", "add_to_cart"],
    ),
    "null event": (
        {"interactions": builders.interactions(event=["rating", None, "view", "view"])},
        ["`event`, row 2", "missing"],
    ),
    "duplicate item": (
        {"items": builders.items(item_id=["a", "b", "a"])},
        ["row 3", "'a' is a duplicate of row 1"],
    ),
    "duplicate user": (
        {"users": builders.users(user_id=["u1", "u1"])},
        ["row 2", "'u1'", "duplicate of row 1"],
    ),
    "duplicate translation": (
        {"translations": builders.translations(language=["ko", "ko"])},
        ["row 2", "'a', 'ko' is a duplicate of row 1", "item_id and language"],
    ),
    "negative timestamp": (
        {"interactions": builders.interactions(timestamp=[5, -1, 5, 5])},
        ["`timestamp`, row 2", "-1 is negative"],
    ),
    "milliseconds": (
        {"interactions": builders.interactions(timestamp=[5, 5, 5, 1_700_000_000_000])},
        ["`timestamp`, row 4", "1700000000000 looks like milliseconds", "divide by 1,000"],
    ),
    "null timestamp": (
        {"interactions": builders.interactions(timestamp=[5, 5, None, 5])},
        ["`timestamp`, row 3", "missing"],
    ),
    "null id": (
        {"interactions": builders.interactions(user_id=["x", None, "y", "z"])},
        ["`user_id`, row 2", "missing"],
    ),
    "blank id": ({"items": builders.items(item_id=["a", "b", " \t"])}, ["`item_id`, row 3", "empty"]),
    "rating without value": (
        {"interactions": builders.interactions(value=pl.Series([None, None, 1.0, 2.0]))},
        ["`value`, row 1", "no value"],
    ),
    "position from zero": (
        {"interactions": builders.interactions(position=pl.Series([1, 0, 2, 3], dtype=pl.Int32))},
        ["`position`, row 2", "count positions from 1"],
    ),
    "unknown item": (
        {"interactions": builders.interactions(item_id=["a", "zz", "zz", "yy"])},
        ["`item_id`, row 2", "'zz'", "3 rows refer to 2 such items"],
    ),
    "translation of an unknown item": (
        {"translations": builders.translations(item_id=["a", "zz"])},
        ["`item_id`, row 2", "'zz'"],
    ),
    "malformed tag": (
        {"items": builders.items(language=["en", "english", "ja"])},
        ["`language`, row 2", "'english'"],
    ),
    "unregistered tag": (
        {"items": builders.items(language=["en", "ar", "jp"])},
        ["`language`, row 3", "'jp'"],
    ),
    "tag not canonical": (
        {"items": builders.items(language=["en", "cmn", "ja"])},
        ["row 2", "'cmn'", "write 'zh'"],
    ),
    "null tag": ({"items": builders.items(language=["en", None, "ja"])}, ["`language`, row 2", "`und`"]),
    "tag of a user": (
        {"users": builders.users(languages=[["en"], ["en", "xx"]])},
        ["`languages`, row 2", "'xx'"],
    ),
    "country": ({"users": builders.users(country=["KR", "Korea"])}, ["`country`, row 2", "'Korea'"]),
    "null categories": (
        {"items": builders.items(categories=[["x"], None, []])},
        ["`categories`, row 2", "empty list"],
    ),
    "null in categories": (
        {"items": builders.items(categories=[["x"], [], ["y", None]])},
        ["`categories`, row 3"],
    ),
    "null title": ({"items": builders.items(title=["t", None, "t"])}, ["`title`, row 2"]),
    "varying embedding": (
        {"items": builders.items(image=pl.Series([None, [1.0, 2.0], [1.0]], dtype=pl.List(pl.Float32)))},
        ["`image`, row 3", "1 numbers, where row 2 has 2"],
    ),
    "empty embedding": (
        {"items": builders.items(image=pl.Series([[], [], []], dtype=pl.List(pl.Float32)))},
        ["`image`, row 1", "the embedding is empty"],
    ),
    "embedding all null": (
        {"items": builders.items(image=pl.Series([None, None, None], dtype=pl.List(pl.Float32)))},
        ["`image`", "no row has an embedding"],
    ),
    "NaN in embedding": (
        {"items": builders.items(image=pl.Series([[1.0], [float("nan")], [1.0]], dtype=pl.List(pl.Float32)))},
        ["`image`, row 2", "NaN"],
    ),
    "double embedding": (
        {"items": builders.items(image=[[1.0], [2.0], [3.0]])},
        ["`image`", "List(Float64)", "cast it to List(Float32)"],
    ),
    "infinite number": ({"items": builders.items(price=[1.0, float("inf"), 2.0])}, ["`price`, row 2", "inf"]),
    "NaN value": (
        {"interactions": builders.interactions(value=[1.0, float("nan"), 2.0, 3.0])},
        ["`value`, row 2", "nan"],
    ),
    "no interactions": ({"interactions": builders.interactions().clear()}, ["`interactions` is empty"]),
    "no items": ({"items": builders.items().clear()}, ["`items` is empty"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_clear_error(tmp_path: Path, fault: str) -> None:
    tables, wanted = FAULTS[fault]
    text = error_of(tmp_path, **tables)
    for part in wanted:
        assert part in text


@pytest.mark.parametrize("fault", FAULTS)
def test_loading_finds_the_same_fault_and_names_the_file(tmp_path: Path, fault: str) -> None:
    tables, wanted = FAULTS[fault]
    whole = {"users": builders.users(), "translations": builders.translations()}
    path = builders.write(tmp_path / "d", **whole).path
    header = yaml.safe_load((path / HEADER).read_text())
    del header["fingerprint"]
    (path / HEADER).write_text(yaml.safe_dump(header))
    for table, frame in tables.items():
        frame.write_parquet(path / f"{table}.parquet")
    with pytest.raises(DatasetError) as caught:
        Dataset.load(path)
    assert f"{path}/{next(iter(tables))}.parquet" in str(caught.value)
    for part in wanted:
        assert part in str(caught.value)


def test_faults_name_the_users_own_file_and_column(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=re.escape("log.csv, column `wann`, row 1: -3 is negative")):
        write_dataset(
            tmp_path / "d",
            name="n",
            description="",
            licence="",
            homepage="",
            interactions=builders.interactions(timestamp=[-3, 1, 1, 1]),
            items=builders.items(),
            origins={"interactions": Origin("log.csv", {"timestamp": "wann"})},
        )


def test_an_existing_directory_is_not_overwritten(whole: Dataset) -> None:
    with pytest.raises(DatasetError, match="already exists"):
        builders.write(whole.path)
    assert Dataset.load(whole.path) == whole


def test_a_failing_source_leaves_nothing(tmp_path: Path) -> None:
    lazy = builders.interactions().lazy().with_columns(pl.col("user_id").cast(pl.Int64))
    with pytest.raises(DatasetError, match="table `interactions` of small"):
        builders.write(tmp_path / "d", interactions=lazy)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", ["interactions", "items", "users", "translations"])
def test_a_truncated_table_is_reported(whole: Dataset, table: str) -> None:
    file = whole.path / f"{table}.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=f"{table}.parquet can't be read.*Remedy"):
        Dataset.load(whole.path)


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    """A flipped bit is detected, or it is in metadata without content."""
    frames = {
        "interactions": pl.concat([builders.interactions()] * 50),
        "items": builders.items(description=["d"] * 3),
    }
    whole = builders.write(tmp_path / "d", **frames)
    file = whole.path / "interactions.parquet"
    intact = file.read_bytes()
    found = 0
    for at in range(4, len(intact), 23):
        file.write_bytes(intact[:at] + bytes([intact[at] ^ 0x10]) + intact[at + 1 :])
        try:
            dataset = Dataset.load(whole.path)
        except DatasetError:
            found += 1
        else:
            assert_frame_equal(dataset.interactions().collect(), frames["interactions"])
    assert found > 10


def test_a_missing_table_is_reported(whole: Dataset) -> None:
    (whole.path / "items.parquet").unlink()
    with pytest.raises(DatasetError, match=r"items\.parquet can't be read"):
        Dataset.load(whole.path)


def test_changed_tables_do_not_match_the_fingerprint(whole: Dataset) -> None:
    builders.items(title=["x", "y", "z"]).write_parquet(whole.path / "items.parquet")
    with pytest.raises(DatasetError, match=r"fingerprint .* remove the line `fingerprint`"):
        Dataset.load(whole.path)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("schema: [", "line 1, column 10: not valid YAML"),
        ("", "does not contain a mapping"),
        ("- a\n", "does not contain a mapping"),
        ("schema: 2\nname: x\ntables: {interactions: a, items: b}\n", "`schema`"),
        ("schema: 1\nname: x\n", "`tables`"),
        ("schema: 1\nname: x\ntables: {interactions: a}\n", "`tables.items`"),
        ("schema: 1\nname: x\ntables: {interactions: ../a, items: b}\n", "leaves the dataset's directory"),
        ("schema: 1\nname: 7\ntables: {interactions: a, items: b}\n", "`name`"),
        ("schema: 1\nname: x\nlicense: y\ntables: {interactions: a, items: b}\n", "`license`"),
    ],
)
def test_a_broken_header_is_reported(whole: Dataset, content: str, wanted: str) -> None:
    (whole.path / HEADER).write_text(content)
    with pytest.raises(DatasetError) as caught:
        Dataset.load(whole.path)
    assert HEADER in str(caught.value)
    assert wanted in str(caught.value)


def test_a_directory_without_header_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is not a dataset: it has no dataset\.yaml"):
        Dataset.load(tmp_path)


def test_shards_are_one_table_with_the_same_fingerprint(whole: Dataset, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "shards")
    header, file = tmp_path / "shards" / "dataset.yaml", tmp_path / "shards" / "interactions.parquet"
    rows = pl.read_parquet(file)
    folder = file.with_suffix("")
    folder.mkdir()
    for part, (begin, length) in enumerate([(0, 1), (1, 0), (1, 3)]):
        rows.slice(begin, length).write_parquet(folder / f"part-{part}.parquet")
    for name in ("_SUCCESS", ".part-0.parquet.crc"):
        (folder / name).write_text("")
    file.unlink()
    header.write_text(header.read_text().replace("interactions: interactions.parquet", "interactions: interactions"))
    found = Dataset.load(tmp_path / "shards")
    assert (found.fingerprint, found.rows) == (whole.fingerprint, whole.rows)
    assert_frame_equal(found.interactions().collect(), rows)
    rows.head(1).drop("value").write_parquet(folder / "part-3.parquet")
    with pytest.raises(DatasetError, match="interactions"):
        Dataset.load(tmp_path / "shards")
    for shard in folder.glob("*.parquet"):
        shard.unlink()
    with pytest.raises(DatasetError, match="there is no such file"):
        Dataset.load(tmp_path / "shards")
