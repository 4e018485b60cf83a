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
from typing import TYPE_CHECKING, Any, Final, TypeVar

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
from trainer.data.spark.session import fit_partitions, spread
from trainer.data.validation import KEYS
from trainer.documents import dump_yaml

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STAGING: Final = "staging"
_DROPS: Final = "data.source.drop_unknown_items"
_Result = TypeVar("_Result")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a dataset whose header is not written yet.

    Attributes:
        name: Of the dataset.
        path: Where they are.
        fingerprint: As of `trainer.data.dataset.Dataset`.
        columns: Columns of each table.
        shards: Number of files of each table.
        read: How each was read, and how many rows were written and dropped.
    """

    name: str
    path: str
    fingerprint: str
    columns: Mapping[str, Sequence[str]]
    shards: Mapping[str, int]
    read: Mapping[str, Mapping[str, Any]]

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows of each table."""
        return {table: facts["written"] for table, facts in self.read.items()}

    def write_header(self) -> None:
        """Writes `HEADER`, which makes the directory a dataset."""
        header = {
            "schema": 1,
            "name": self.name,
            "description": f"Made from {', '.join(facts['file'] for facts in self.read.values())}.",
            "licence": "",
            "homepage": "",
            "fingerprint": self.fingerprint,
            "tables": {table: table for table in self.read},
            "rows": self.rows,
            "dropped": dict(self.read["interactions"]["dropped"]),
            "read": dict(self.read),
        }
        with tempfile.TemporaryDirectory(prefix="babelrec-") as folder:
            file = Path(folder) / HEADER
            file.write_text(dump_yaml(header), encoding="utf-8")
            put(file, joined(self.path, HEADER))


def make_tables(
    session: "SparkSession", source: TabularSource, places: Mapping[str, Sequence[str]], path: str
) -> Tables:
    """Converts, validates and writes the tables of a source.

    Args:
        session: Of Spark.
        source: Column mapping and formats; its paths are replaced by ``places``.
        places: Table -> where its rows are, one place after another: files, directories and globs that all workers
            see.
        path: The directory to write to.

    Raises:
        DatasetError: A fault in the files: that of the first file that has one.
    """
    files: dict[str, list[str]] = {
        table: [file for place in places[table] for file in files_of(place)] for table in named(source)
    }
    jobs = [(table, part, file) for table in named(source) for part, file in enumerate(files[table])]
    fit_partitions(session, max(map(len, files.values())))
    staging = joined(path, STAGING)
    converted = spread(session, _converting(source, staging), jobs)
    parts = _by_table(jobs, converted)
    schemas = {table: schema_of(made) for table, made in parts.items()}
    lost, dropped = _lost_rows(session, source, staging, parts, places)
    made_of = [(table, part, made) for (table, part, _), made in zip(jobs, converted, strict=True)]
    finished = _by_table(jobs, spread(session, _finishing(staging, lost, path, schemas), made_of))
    read = {}
    for table, shards in finished.items():
        place = ", ".join(places[table])
        rows = _checked(place, table, parts[table], shards)
        if table in KEYS:
            refuse_repeated(numbered(session, joined(path, table), KEYS[table]), KEYS[table], parts[table])
        read[table] = facts_of(places[table][0], parts[table], dropped if table == "interactions" else {}, rows)
    remove(staging)
    tables = Tables(
        name=places["interactions"][0].rstrip("/").rpartition("/")[2].split(".")[0],
        path=path,
        fingerprint=_fingerprint(
            session, path, {table: (len(files[table]), schema) for table, schema in schemas.items()}
        ),
        columns={table: list(schema) for table, schema in schemas.items()},
        shards={table: len(made) for table, made in parts.items()},
        read=read,
    )
    _LOG.info("Tables: %s.", ", ".join(f"{table} {count:,}" for table, count in tables.rows.items()))
    return tables


def _by_table(jobs: Sequence[tuple[TableName, int, str]], results: Sequence[_Result]) -> dict[str, list[_Result]]:
    found: dict[str, list[_Result]] = {}
    for (table, _, _), result in zip(jobs, results, strict=True):
        found.setdefault(table, []).append(result)
    return found


def _checked(place: str, table: str, parts: Sequence[Converted], shards: Sequence[Finished]) -> int:
    """The rows of a table, none of whose shards has a fault."""
    for shard in shards:
        if shard.fault is not None:
            raise DatasetError(shard.fault)
    rows = sum(shard.rows for shard in shards)
    if not rows:
        raise DatasetError(
            f"{place}: the table `{table}` is empty. Remedy: provide at least one row, or check the filter or query "
            "that wrote it, and that both tables use the same item ids."
        )
    lengths_agree(parts, shards)
    return rows


def _converting(source: TabularSource, staging: str) -> Callable[[tuple[TableName, int, str]], Converted]:
    def work(job: tuple[TableName, int, str]) -> Converted:
        table, part, file = job
        return convert_part(source, table, file, joined(staging, table, shard_name(part)))

    return work


def _finishing(
    staging: str, lost: str | None, path: str, schemas: Mapping[str, Mapping[str, pl.DataType]]
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
    parts: Mapping[str, Sequence[Converted]],
    places: Mapping[str, Sequence[str]],
) -> tuple[str | None, dict[str, int]]:
    """Where the interactions of unknown items are listed, and how many there are by reason.

    None: they are an error, and there are none.
    """
    items = session.read.parquet(for_spark(joined(staging, "items")))
    unknown = unknown_items(numbered(session, joined(staging, "interactions"), ["item_id"]), items)
    if not source.drop_unknown_items:
        refuse_unknown(unknown, parts["interactions"], ", ".join(places["items"]), _DROPS)
        return None, {}
    lost = joined(staging, "lost")
    write_rows(unknown, lost)
    return lost, {UNKNOWN_ITEMS: unknown.count()}


def _fingerprint(
    session: "SparkSession", path: str, tables: Mapping[str, tuple[int, Mapping[str, pl.DataType]]]
) -> str:
    """That of the tables: number of shards and schema of each. A task reads one column of all shards."""
    jobs = [(table, count, column) for table, (count, schema) in tables.items() for column in schema]

    def work(job: tuple[str, int, str]) -> bytes:
        table, count, column = job
        filesystem, place = located(joined(path, table))
        files = [f"{place}/{shard_name(part)}" for part in range(count)]
        return column_digests(files, [column], filesystem)[column]

    found: dict[str, dict[str, bytes]] = {}
    for (table, _, column), digest in zip(jobs, spread(session, work, jobs), strict=True):
        found.setdefault(table, {})[column] = digest
    return combined(found)
