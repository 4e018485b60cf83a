"""The split of a dataset, made by Spark: the parts that `trainer.data.split` makes, row for row."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from trainer.data.fingerprint import column_digests, combined
from trainer.data.prepared import COLD, FOLDER, PARTS, RECORD, SplitRecord, split_key
from trainer.data.settings import DataConfig
from trainer.data.spark.division import divide
from trainer.data.spark.observed import not_observed
from trainer.data.spark.parts import shard_name, without_rows
from trainer.data.spark.places import files_of, for_spark, joined, located, put, remove
from trainer.data.spark.positives import in_order, positives
from trainer.data.spark.rows import numbered, rows_of, write_rows
from trainer.data.spark.session import spread
from trainer.data.spark.tables import STAGING, Tables
from trainer.data.split import SplitError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_COLUMNS = ("user_id", "item_id", "timestamp", "event", "value")
_LOG = logging.getLogger(__name__)


def make_split(session: "SparkSession", tables: Tables, config: DataConfig) -> SplitRecord:
    """Writes the split of a dataset's interactions where `trainer.data.prepared` looks for it.

    Args:
        session: Of Spark.
        tables: The dataset.
        config: Its ``train_users`` is not used.

    Raises:
        SplitError: There are no positives, or nothing to train on, or no impressions to split by.
    """
    folder = joined(tables.path, FOLDER, split_key(config))
    interactions = joined(tables.path, "interactions")
    impressions = ("impression_id",) if "impression_id" in tables.columns["interactions"] else ()
    events = numbered(session, interactions, [*_COLUMNS, *impressions])
    everything = positives(events, tables.name, config).persist()
    parts = divide(events, everything, tables.name, config)
    written: dict[str, DataFrame] = {}
    for name in PARTS[:3]:
        written[name] = _written(in_order(getattr(parts, name)), joined(folder, name))
    written[COLD] = _written(parts.cold.orderBy("item_id"), joined(folder, COLD))
    everything.unpersist()

    tested = written["test"].join(written[COLD], on="item_id", how="left_anti")
    held_out = written["validation"].unionByName(tested)
    staging = joined(tables.path, STAGING)
    write_rows(not_observed(events, written["train"], held_out, written[COLD], parts.begin, config), staging)
    spread(session, _copying(interactions, staging, joined(folder, "observed")), range(tables.shards["interactions"]))
    remove(staging)

    found = dict(zip((*PARTS, COLD), spread(session, _reading(folder), (*PARTS, COLD)), strict=True))
    rows = {name: count for name, (_, count) in found.items()}
    if not rows["train"]:
        raise SplitError(
            f"The split leaves nothing to train on of {tables.name}. Remedy: lower `data.split.test_fraction` or "
            "`validation_fraction`; `trainer.task data` says more of a part of the data."
        )
    record = SplitRecord(tables.fingerprint, combined({name: digests for name, (digests, _) in found.items()}), rows)
    with tempfile.TemporaryDirectory(prefix="babelrec-") as temporary:
        file = Path(temporary) / RECORD
        file.write_text(record.json(), encoding="utf-8")
        put(file, joined(folder, RECORD))
    _LOG.info("Split %s: %s.", split_key(config), ", ".join(f"{name} {count:,}" for name, count in rows.items()))
    return record


def _written(rows: "DataFrame", place: str) -> "DataFrame":
    """The same rows, read from the files that they are written to."""
    rows.write.parquet(for_spark(place))
    return rows.sparkSession.read.parquet(for_spark(place))


def _copying(interactions: str, lost: str, target: str) -> Callable[[int], None]:
    def work(part: int) -> None:
        shard = shard_name(part)
        without_rows(joined(interactions, shard), rows_of(lost, part), joined(target, shard))

    return work


def _reading(folder: str) -> Callable[[str], tuple[dict[str, bytes], int]]:
    """Digests of the columns, and number of rows, of a table of the split."""

    def work(table: str) -> tuple[dict[str, bytes], int]:
        filesystem = located(folder)[0]
        files = [located(file)[1] for file in files_of(joined(folder, table))]
        rows = sum(pq.read_metadata(file, filesystem=filesystem).num_rows for file in files)
        return column_digests(files, None, filesystem), rows

    return work
