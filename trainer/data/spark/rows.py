"""What is said of a table as a whole: rows of unknown items, keys that occur twice.

A row is known by the number of its shard (`PART`) and its number in it (`ROW`), both from 0, which together are the
order of the table.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.data.faults import DatasetError
from trainer.data.spark.parts import PART, ROW, Converted
from trainer.data.spark.places import for_spark, joined

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def numbered(session: "SparkSession", table: str, columns: Sequence[str]) -> "DataFrame":
    """Columns of a table's shards, with `PART` and `ROW`."""
    from pyspark.sql import functions as sf

    name = sf.col("_metadata.file_name")
    return session.read.parquet(for_spark(table)).select(
        *columns,
        sf.regexp_extract(name, r"part-(\d+)", 1).cast("int").alias(PART),
        sf.col("_metadata.row_index").cast("long").alias(ROW),
    )


def write_rows(rows: "DataFrame", target: str) -> None:
    """Writes `PART` and `ROW` of rows, those of a part into a directory of its own: `rows_of`."""
    rows.select(PART, ROW).repartition(PART).write.partitionBy(PART).parquet(for_spark(target))


def rows_of(target: str, part: int) -> str:
    """The directory of a part's rows, which is missing if there are none."""
    return joined(target, f"{PART}={part}")


def unknown_items(interactions: "DataFrame", items: "DataFrame") -> "DataFrame":
    """The rows whose item is not in ``items``."""
    return interactions.join(items.select("item_id"), on="item_id", how="left_anti")


def refuse_unknown(unknown: "DataFrame", parts: Sequence[Converted], items: str, drops: str) -> None:
    """Checks that there are no rows of unknown items.

    Raises:
        DatasetError: Names the first of them, and counts them and their items.
    """
    from pyspark.sql import functions as sf

    found = unknown.agg(
        sf.count("*"), sf.count_distinct("item_id"), sf.min(sf.struct(PART, ROW, "item_id")).alias("first")
    ).first()
    assert found is not None  # an aggregate has one row
    if not found[0]:
        return
    part = parts[found["first"][PART]]
    raise DatasetError(
        f"{part.file}, column `{part.columns.get('item_id', 'item_id')}`, row {found['first'][ROW] + 1}: "
        f"{found['first']['item_id']!r} is not in {items}; {found[0]:,} rows refer to {found[1]:,} such items. Remedy: "
        f"add those items, or drop the rows (`{drops}: true` drops and counts them)."
    )


def refuse_repeated(table: "DataFrame", keys: Sequence[str], parts: Sequence[Converted]) -> None:
    """Checks that no two rows have the same key.

    Raises:
        DatasetError: Names the first row that repeats an earlier one's.
    """
    from pyspark.sql import functions as sf
    from pyspark.sql.window import Window

    place = sf.row_number().over(Window.partitionBy(*keys).orderBy(PART, ROW))
    first = sf.first(sf.struct(PART, ROW)).over(Window.partitionBy(*keys).orderBy(PART, ROW))
    second = table.select(*keys, PART, ROW, place.alias("place"), first.alias("first")).filter("place = 2")
    found = second.orderBy(PART, ROW).first()
    if found is None:
        return
    part, earlier = parts[found[PART]], parts[found["first"][PART]]
    names = [part.columns.get(key, key) for key in keys]
    raise DatasetError(
        f"{part.file}, column `{names[0]}`, row {found[ROW] + 1}: {', '.join(repr(found[key]) for key in keys)} is a "
        f"duplicate of {earlier.file}, row {found['first'][ROW] + 1}. Remedy: keep one row per {' and '.join(names)}."
    )
