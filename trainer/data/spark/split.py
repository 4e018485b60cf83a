"""The split of a dataset, made by Spark: the parts that `trainer.data.split` makes, row for row."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
    for name, rows in (("train", parts.train), ("validation", parts.validation), ("test", parts.test)):
        place = for_spark(joined(folder, name))
        in_order(rows).write.parquet(place)
        written[name] = session.read.parquet(place)
    if not written["train"].head(1):
        raise SplitError(
            f"The split leaves nothing to train on of {tables.name}. Remedy: lower `data.split.test_fraction` or "
            "`validation_fraction`; `trainer.task data` says more of a part of the data."
        )
    place = for_spark(joined(folder, COLD))
    parts.cold.orderBy("item_id").write.parquet(place)
    written[COLD] = session.read.parquet(place)
    everything.unpersist()

    tested = written["test"].join(written[COLD], on="item_id", how="left_anti")
    held_out = written["validation"].unionByName(tested)
    staging = joined(tables.path, STAGING)
    write_rows(not_observed(events, written["train"], held_out, written[COLD], parts.begin, config), staging)
    counts = {name: rows.count() for name, rows in written.items()}
    shards = range(tables.shards["interactions"])
    counts["observed"] = sum(spread(session, _copying(interactions, staging, joined(folder, "observed")), shards))
    remove(staging)

    record = SplitRecord(tables.fingerprint, _fingerprint(session, folder), counts)
    with tempfile.TemporaryDirectory(prefix="babelrec-") as temporary:
        file = Path(temporary) / RECORD
        file.write_text(record.json(), encoding="utf-8")
        put(file, joined(folder, RECORD))
    _LOG.info("Split %s: %s.", split_key(config), ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return record


def _copying(interactions: str, lost: str, target: str) -> Callable[[int], int]:
    def work(part: int) -> int:
        shard = shard_name(part)
        return without_rows(joined(interactions, shard), rows_of(lost, part), joined(target, shard))

    return work


def _fingerprint(session: "SparkSession", folder: str) -> str:
    """A task reads one table."""

    def work(table: str) -> dict[str, bytes]:
        files = files_of(joined(folder, table))
        return column_digests([located(file)[1] for file in files], None, located(folder)[0])

    tables = [*PARTS, COLD]
    return combined(dict(zip(tables, spread(session, work, tables), strict=True)))
