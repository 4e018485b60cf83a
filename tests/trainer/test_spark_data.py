"""Datasets made by a Spark cluster, compared with those that one machine makes of the same files."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from polars.testing import assert_frame_equal

from benchmarks.harness.postgresql import postgresql_programs, postgresql_server
from benchmarks.harness.service import free_port
from serving.service.store import open_store
from serving.service.types import Event, Item
from tests.trainer.spark_session import DRIVER, small_cluster
from tests.trainer.spark_shop import ITEMS, START, options, write_shop
from tests.trainer.text.conftest import save_reusable
from trainer import spark_data
from trainer.config.loading import load_config
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset, DatasetExistsError
from trainer.data.faults import DatasetError
from trainer.data.ids import as_text
from trainer.data.prepared import FOLDER, prepared_parts, split_key
from trainer.data.settings import DataConfig, TabularSource
from trainer.data.sources import tabular
from trainer.data.sources.tabular import UNKNOWN_ITEMS
from trainer.data.spark.split import make_split
from trainer.data.spark.tables import Tables
from trainer.data.split import split, without_validation
from trainer.data.vocabulary import Vocabulary
from trainer.documents import dump_yaml
from trainer.errors import BabelrecError
from trainer.spark_data import prepare
from trainer.text.cooccurrence import CoOccurrence
from trainer.text.vector_cache import VectorCache, text_keys

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    """One for all tests."""
    with small_cluster(tmp_path_factory.mktemp("spark")) as session:
        yield session


class _Signs(tf.Module):
    """Two numbers per text: its bytes, and one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        length = tf.cast(tf.strings.length(texts), tf.float32)
        return tf.stack([length, self.weight * tf.ones_like(length)], axis=1)


@dataclass(frozen=True)
class _Both:
    """One shop's dataset by one machine and by Spark."""

    config: Config
    alone: Dataset
    found: Dataset
    tables: Tables
    vectors: Path


@pytest.fixture(scope="module")
def both(spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> _Both:
    """With everything that Spark can make."""
    folder = tmp_path_factory.mktemp("shop")
    config = write_shop(folder)
    signs = _Signs()
    overrides = ["training.refit=false", f"text.encoder={save_reusable(signs, [signs.weight], folder / 'encoder')}"]
    vectors = folder / "vectors"
    given = options(config, folder / "spark", overrides=overrides, counts=True, pairs=True, vectors=str(vectors))
    tables = prepare(given, spark)
    settings = load_config(config, overrides)
    assert isinstance(settings.data.source, TabularSource)
    alone = tabular.write(settings.data.source, folder / "alone")
    return _Both(settings, alone, Dataset.load(folder / "spark"), tables, vectors)


def test_the_tables_are_equal(both: _Both) -> None:
    alone, found = both.alone, both.found
    assert found.fingerprint == alone.fingerprint == both.tables.fingerprint
    assert (found.rows, found.dropped, found.name) == (alone.rows, alone.dropped, alone.name)
    assert found.dropped[UNKNOWN_ITEMS] > 0
    assert_frame_equal(found.interactions().collect(), alone.interactions().collect())
    assert_frame_equal(found.items().collect(), alone.items().collect())
    for table, facts in alone.read.items():
        same = ("records", "dropped", "written", "unused", "times", "first_time", "last_time", "languages")
        assert {name: found.read[table].get(name) for name in same} == {name: facts.get(name) for name in same}
    shards = [path.name for path in sorted((found.path / "interactions").glob("*.parquet"))]
    assert shards == ["part-000000.parquet", "part-000001.parquet", "part-000002.parquet"]
    assert {path.name for path in found.path.iterdir()} == {"dataset.yaml", "interactions", "items", "users", FOLDER}


def assert_same_split(both: _Both, data: DataConfig) -> None:
    assert prepared_parts(both.found, data) is not None
    assert prepared_parts(both.alone, data) is None
    expected, prepared = split(both.alone, data), split(both.found, data)
    for part in ("train", "validation", "test", "observed"):
        assert_frame_equal(getattr(prepared, part), as_text(getattr(expected, part)))
    assert (prepared.kind, prepared.cold) == (expected.kind, expected.cold)
    assert len(expected.cold) == math.ceil(data.split.cold_items * len(ITEMS))


def test_the_split_by_user_is_equal(both: _Both) -> None:
    assert both.config.data.refusals
    assert both.config.data.split.cold_items == 0.2
    assert_same_split(both, both.config.data)


def test_the_split_of_the_refit_is_made_too(both: _Both, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(spark_data, "make_split", lambda *arguments: made.append(arguments[2]))
    given = options(Path("unused.yaml"), "unused")
    for refit in (True, False):
        training = both.config.training.model_copy(update={"refit": refit})
        spark_data._derive(mock.Mock(), both.tables, both.config.model_copy(update={"training": training}), given)
    assert made == [both.config.data, without_validation(both.config.data), both.config.data]


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "global", "cold_items": 0.3, "test_fraction": 0.34},
        {"kind": "impressions", "cold_items": 0.0},
    ],
)
def test_other_splits_are_equal(settings: dict[str, Any], both: _Both, spark: "SparkSession") -> None:
    parts = both.config.data.split.model_copy(update={"cold_items": 0.0} | settings)
    data = both.config.data.model_copy(update={"split": parts, "refusals": False})
    make_split(spark, both.tables, data)
    assert_same_split(both, data)


def test_the_counts_are_those_of_the_vocabulary(both: _Both) -> None:
    config, alone, found = both.config, both.alone, both.found
    parts, catalogue = split(alone, config.data), Catalogue.from_dataset(alone)
    folder = found.path / FOLDER / split_key(config.data)
    vocabulary = Vocabulary.from_training(alone, catalogue, parts, config)

    def counted(name: str) -> pl.DataFrame:
        return pl.read_parquet(folder / "counts" / name / "*.parquet")

    for name, key, values in (("users", "user_id", vocabulary.users), ("items", "item_id", vocabulary.items)):
        assert counted(name)[key].to_list() == values
        for column, table in (("positives", parts.train), ("events", parts.observed)):
            expected = dict(table[key].value_counts().iter_rows())
            assert counted(name)[column].to_list() == [expected.get(value, 0) for value in values]
    assert counted("categories")["category"].to_list() == vocabulary.categories
    assert counted("events")["event"].to_list() == vocabulary.events

    pairs = CoOccurrence.from_training(parts.train, catalogue).items.tocoo()
    ids = catalogue.item_ids
    expected_pairs = {
        (ids[own], ids[other]): int(count)
        for own, other, count in zip(*pairs.coords, pairs.data, strict=True)
        if own < other
    }
    assert {row[:2]: row[2] for row in pl.read_parquet(folder / "pairs" / "*.parquet").iter_rows()} == expected_pairs
    assert len(expected_pairs) > 5


def test_every_text_is_in_the_cache(both: _Both) -> None:
    catalogue = Catalogue.from_dataset(both.alone)
    (cache,) = both.vectors.iterdir()
    texts = list(dict.fromkeys([*catalogue.texts, *catalogue.category_labels]))
    found, stored = VectorCache(cache).look_up(text_keys(texts))
    assert len(found) == len(texts)
    assert stored is not None
    np.testing.assert_array_equal(stored, [[len(text.encode()), 1.0] for text in texts])
    assert len(list(cache.glob("*.index.npy"))) == 1


def test_a_split_of_other_tables_and_a_damaged_one_are_refused(both: _Both, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="was made of other tables"):
        prepared_parts(replace(both.found, fingerprint=both.found.fingerprint[::-1]), both.config.data)
    copy = Path(shutil.copytree(both.found.path, tmp_path / "copy"))
    part = next((copy / FOLDER / split_key(both.config.data) / "train").glob("*.parquet"))
    pl.read_parquet(part).head(2).write_parquet(part)
    with pytest.raises(DatasetError, match="modified or damaged"):
        split(Dataset.load(copy), both.config.data)


def spoiled(folder: Path, part: int, row: str) -> Path:
    config = write_shop(folder)
    with (folder / "events" / f"part-{part}.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    return config


def test_faults_are_named_with_their_file_and_row(spark: "SparkSession", tmp_path: Path) -> None:
    def said(config: Path, **changes: list[str]) -> str:
        with pytest.raises(BabelrecError) as caught:
            prepare(options(config, tmp_path / "out", **changes), spark)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    # The unknown items before it are dropped, and the row is that of the file.
    event = said(spoiled(tmp_path / "event", 2, f"u5,7,{START},clack,,,,"))
    assert "part-2.csv, column `event`, row 91: unknown event 'clack' (did you mean 'click'?)" in event
    time = said(spoiled(tmp_path / "time", 1, "u5,7,yesterday,click,,,,"))
    assert "part-1.csv, column `timestamp`, row 91: 'yesterday' is not a time" in time
    fields = said(spoiled(tmp_path / "fields", 0, "u5,7"))
    assert "part-0.csv, row 91" in fields
    plain = write_shop(tmp_path / "plain")
    unknown = said(plain, overrides=["data.source.drop_unknown_items=false"])
    events = pl.read_csv(tmp_path / "plain" / "events" / "part-0.csv")["item_id"].to_list()
    first = next(row for row, item in enumerate(events, 1) if item not in ITEMS)
    assert f"part-0.csv, column `item_id`, row {first}: " in unknown
    assert "drop_unknown_items: true" in unknown
    with (tmp_path / "plain" / "items" / "1.jsonl").open("a", encoding="utf-8") as file:
        row = {"item_id": "東京", "title": "x", "language": "es", "categories": [], "price": 1.0, "image": [1.0, 2.0]}
        file.write(json.dumps(row | {"description": "y"}) + "\n")
    repeated = said(plain)
    assert "items/1.jsonl, column `item_id`, row 7: '東京' is a duplicate of " in repeated
    assert "items/0.jsonl, row 5. Remedy: keep one row per item_id." in repeated


def test_an_existing_dataset_is_left_alone(both: _Both, spark: "SparkSession") -> None:
    with pytest.raises(DatasetExistsError, match="already exists"):
        prepare(options(both.found.path.parent / "shop.yaml", both.found.path), spark)


@pytest.fixture(scope="module")
def database() -> Iterator[tuple[str, str]]:
    """The URLs of an empty PostgreSQL database: SQLAlchemy's and JDBC's."""
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL on this machine: neither initdb in the path nor /usr/lib/postgresql")
    if not DRIVER.exists():
        pytest.skip(f"no JDBC driver of PostgreSQL at {DRIVER} (Debian: libpostgresql-jdbc-java)")
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "fsync": "off"}
    with postgresql_server(programs, settings) as url:
        yield f"{url}&port={port}", f"jdbc:postgresql://127.0.0.1:{port}/postgres?user=postgres"


def test_the_store_of_a_service_is_read(database: tuple[str, str], spark: "SparkSession", tmp_path: Path) -> None:
    """As the store itself copies what it has heard for an update, and imports a dataset."""
    url, jdbc = database
    items = [
        Item(item_id=item, language="ko", title=f"제목 {item}", categories=["새", 'a "b"'][: place % 3])
        for place, item in enumerate(ITEMS)
    ]
    random = np.random.default_rng(5)
    events = [
        Event(
            event_id=f"e{number}",
            event=str(random.choice(["click", "view", "purchase"])),
            timestamp=START + int(random.integers(20)),
            user_id=str(random.choice(["", "用户", "u1"])),
            session_id=str(random.choice(["s1", "s2"])),
            item_id=str(random.choice(ITEMS)),
            value=None if number % 3 else 2.5,
            language="ko" if number % 2 else "",
        )
        for number in range(60)
    ]
    config = tmp_path / "store.yaml"
    source = {"name": "tabular", "interactions": "unused", "items": "unused"}
    data = {"source": source, "split": {"min_positives": 1}}
    config.write_text(dump_yaml({"name": "store", "data": data, "training": {"refit": False}}))
    with open_store(url) as store:
        store.put_items(items)
        # A search has no item, and is no interaction.
        store.append_events([*events, Event(event_id="f", event="search", timestamp=START, user_id="u1")])
        store.link_session("s1", "مستخدم")
        store.copy_events(tmp_path / "copied.parquet")
        given = options(config, tmp_path / "out", jdbc=jdbc, store=True, split_by=["interactions=number"], overrides=[])
        prepare(given, spark)
    found = Dataset.load(tmp_path / "out")
    expected = pl.read_parquet(tmp_path / "copied.parquet").select(
        "user_id", "item_id", "timestamp", "event", "value", "position", "language", "country"
    )
    assert_frame_equal(found.interactions().collect(), expected)
    assert set(expected["user_id"]) == {"用户", "u1", "مستخدم", "session:s2"}
    described = found.items().collect().sort("item_id")
    assert described["item_id"].to_list() == sorted(ITEMS)
    by_id = {item.item_id: item for item in items}
    assert described["title"].to_list() == [by_id[item].title for item in described["item_id"]]
    assert described["categories"].to_list() == [list(by_id[item].categories) for item in described["item_id"]]


def test_what_the_database_says_is_the_error(database: tuple[str, str], spark: "SparkSession", tmp_path: Path) -> None:
    config = write_shop(tmp_path / "shop")
    given = options(config, tmp_path / "out", jdbc=database[1], queries=["items=SELECT missing FROM nowhere"])
    with pytest.raises(BabelrecError, match=r'The database can.t be read: .*relation "nowhere" does not exist'):
        prepare(given, spark)
    assert not (tmp_path / "out").exists()
