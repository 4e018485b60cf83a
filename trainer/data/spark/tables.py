"""A tabular source as a dataset directory, made by the workers of a Spark cluster.

One task takes one file of a table, and makes one shard of it, with the code that one machine uses. Spark does what
concerns a table as a whole. Shards are in the order of the files, and rows in that of their file: the tables, and so
their fingerprint, are those that `trainer.data.sources.tabular` makes of the same files.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from trainer.data.dataset import HEADER
from trainer.data.faults import DatasetError
from trainer.data.fingerprint import column_digests, combined
from trainer.data.settings import TabularSource
from trainer.data.sources.tabular import UNKNOWN_ITEMS, TableName, named
from trainer.data.spark.agreement import facts_of, lengths_agree, schema_of
from trainer.data.spark.parts import Converted, Finished, convert_part, finish_part, shard_name
from trainer.data.spark.places import files_of, for_spark, joined, located, put, remove
from trainer.data.spark.rows import numbered, refuse_repeated, refuse_unknown, rows_of, unknown_items, write_rows
from trainer.data.spark.session import spread
from trainer.data.validation import KEYS
from trainer.documents import dump_yaml

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STAGING: Final = "staging"
_DROPS: Final = "data.source.drop_unknown_items"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a dataset whose header is not written yet.

    Attributes:
        name: Of the dataset.
        path: Where they are.
        fingerprint: As of `trainer.data.dataset.Dataset`.
        rows: Number of rows of each table.
        columns: Columns of each table.
        shards: Number of files of each table.
        header: The content of `HEADER`.
    """

    name: str
    path: str
    fingerprint: str
    rows: Mapping[str, int]
    columns: Mapping[str, Sequence[str]]
    shards: Mapping[str, int]
    header: Mapping[str, Any]

    def write_header(self) -> None:
        """Writes `HEADER`, which makes the directory a dataset."""
        with tempfile.TemporaryDirectory(prefix="babelrec-") as folder:
            file = Path(folder) / HEADER
            file.write_text(dump_yaml(dict(self.header)), encoding="utf-8")
            put(file, joined(self.path, HEADER))


def make_tables(session: "SparkSession", source: TabularSource, places: Mapping[str, str], path: str) -> Tables:
    """Converts, validates and writes the tables of a source.

    Args:
        session: Of Spark.
        source: Column mapping and formats; its paths are replaced by ``places``.
        places: Table -> its path, directory, glob or URI, of a file system that all workers see.
        path: The directory to write to.

    Raises:
        DatasetError: A fault in the files: that of the first file that has one.
    """
    files: dict[TableName, list[str]] = {table: files_of(places[table]) for table in named(source)}
    parts: dict[TableName, list[Converted]] = {}
    staging = joined(path, STAGING)
    jobs = [(table, part, file) for table, found in files.items() for part, file in enumerate(found)]
    converted = spread(session, _converting(source, staging), jobs)
    for (table, _, _), made in zip(jobs, converted, strict=True):
        parts.setdefault(table, []).append(made)
    schemas = {table: schema_of(made) for table, made in parts.items()}
    lost, dropped = _lost_rows(session, source, staging, parts, places)

    finishing = _finishing(staging, lost, path, schemas)
    finished = spread(
        session, finishing, [(table, part, made) for (table, part, _), made in zip(jobs, converted, strict=True)]
    )
    shards: dict[TableName, list[Finished]] = {}
    for (table, _, _), shard in zip(jobs, finished, strict=True):
        if shard.fault is not None:
            raise DatasetError(shard.fault)
        shards.setdefault(table, []).append(shard)
    rows = {table: sum(shard.rows for shard in made) for table, made in shards.items()}
    read = {}
    for table, made in parts.items():
        if not rows[table]:
            raise DatasetError(
                f"{places[table]}: the table `{table}` is empty. Remedy: provide at least one row, or check the filter "
                "or query that wrote it, and the ids of items in both tables."
            )
        lengths_agree(made, shards[table])
        if table in KEYS:
            refuse_repeated(numbered(session, joined(path, table), KEYS[table]), KEYS[table], made)
        read[table] = facts_of(places[table], made, dropped if table == "interactions" else {}, rows[table])
    remove(staging)
    digest = _fingerprint(session, path, {table: (len(parts[table]), schema) for table, schema in schemas.items()})
    _LOG.info("Tables: %s.", ", ".join(f"{table} {count:,}" for table, count in rows.items()))
    name = places["interactions"].rstrip("/").rpartition("/")[2].split(".")[0]
    header = {
        "schema": 1,
        "name": name,
        "description": f"Made from {', '.join(facts['file'] for facts in read.values())}.",
        "licence": "",
        "homepage": "",
        "fingerprint": digest,
        "tables": {table: table for table in rows},
        "rows": rows,
        "dropped": dict(read["interactions"]["dropped"]),
        "read": read,
    }
    columns = {table: list(schema) for table, schema in schemas.items()}
    return Tables(name, path, digest, rows, columns, {table: len(made) for table, made in parts.items()}, header)


def _converting(source: TabularSource, staging: str) -> Callable[[tuple[TableName, int, str]], Converted]:
    def work(job: tuple[TableName, int, str]) -> Converted:
        table, part, file = job
        return convert_part(source, table, file, joined(staging, table, shard_name(part)))

    return work


def _finishing(
    staging: str, lost: str | None, path: str, schemas: Mapping[TableName, Mapping[str, pl.DataType]]
) -> Callable[[tuple[TableName, int, Converted]], Finished]:
    def work(job: tuple[TableName, int, Converted]) -> Finished:
        table, part, made = job
        return finish_part(
            table,
            made,
            joined(staging, table, shard_name(part)),
            schemas[table],
            rows_of(lost, part) if lost is not None and table == "interactions" else None,
            joined(path, table, shard_name(part)),
        )

    return work


def _lost_rows(
    session: "SparkSession",
    source: TabularSource,
    staging: str,
    parts: Mapping[TableName, Sequence[Converted]],
    places: Mapping[str, str],
) -> tuple[str | None, dict[str, int]]:
    """Where the interactions of unknown items are listed, and how many there are by reason.

    None: they are an error, and there are none.
    """
    items = session.read.parquet(for_spark(joined(staging, "items")))
    unknown = unknown_items(numbered(session, joined(staging, "interactions"), ["item_id"]), items)
    if not source.drop_unknown_items:
        refuse_unknown(unknown, parts["interactions"], places["items"], _DROPS)
        return None, {}
    lost = joined(staging, "lost")
    write_rows(unknown, lost)
    return lost, {UNKNOWN_ITEMS: unknown.count()}


def _fingerprint(
    session: "SparkSession", path: str, tables: Mapping[TableName, tuple[int, Mapping[str, pl.DataType]]]
) -> str:
    """That of the tables: number of shards and schema of each. A task reads one column of all shards."""
    jobs = [(table, count, column) for table, (count, schema) in tables.items() for column in schema]

    def work(job: tuple[TableName, int, str]) -> bytes:
        table, count, column = job
        filesystem, place = located(joined(path, table))
        files = [f"{place}/{shard_name(part)}" for part in range(count)]
        return column_digests(files, [column], filesystem)[column]

    found: dict[str, dict[str, bytes]] = {}
    for (table, _, column), digest in zip(jobs, spread(session, work, jobs), strict=True):
        found.setdefault(table, {})[column] = digest
    return combined(found)
