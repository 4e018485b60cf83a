"""Positives and their order by Spark, as `trainer.data.split` has them on one machine."""

from typing import TYPE_CHECKING, Final

from serving.service.types import EVENTS
from trainer.data.settings import DataConfig
from trainer.data.spark.parts import PART, ROW
from trainer.data.split import COLUMNS, REFUSALS, SplitError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

PAIR: Final = ["user_id", "item_id"]
# More than a file can have; eight million files fit into the rest of a number.
_ROWS_OF_A_PART: Final = 1 << 40


def by_time() -> list["Column"]:
    """`trainer.data.user_items.by_time`."""
    from pyspark.sql import functions as sf

    return [sf.col("timestamp"), sf.octet_length("item_id"), sf.col("item_id")]


def in_order(rows: "DataFrame") -> "DataFrame":
    """Positives by user, shorter ids first, then `by_time`."""
    from pyspark.sql import functions as sf

    return rows.select(*COLUMNS).orderBy(sf.octet_length("user_id"), sf.col("user_id"), *by_time())


def positives(events: "DataFrame", name: str, config: DataConfig) -> "DataFrame":
    """`trainer.data.split.positives`, in no order.

    Args:
        events: user_id, item_id, timestamp, event, value, and their place.
        name: Of the dataset, for error messages.
        config: What counts, and how many a user must have.

    Raises:
        SplitError: A rule names an unknown event, or there are no positives.
    """
    from pyspark.sql import functions as sf
    from pyspark.sql.window import Window

    unknown = sorted(set(config.positives) - set(EVENTS))
    if unknown:
        raise SplitError(f"`data.positives` has the unknown event {unknown[0]!r}. Remedy: use {', '.join(EVENTS)}.")
    counts = sf.lit(False)
    for event, least in config.positives.items():
        is_event = sf.col("event") == event
        counts = counts | (is_event if least is None else is_event & (sf.col("value") >= sf.lit(float(least))))
    taken = events.filter(counts)
    if config.refusals:
        refused = events.filter(sf.col("event").isin(list(REFUSALS)))
        last = refused.groupBy(*PAIR).agg(sf.max("timestamp").alias("refused"))
        taken = taken.join(last, on=PAIR, how="left").filter(sf.coalesce("refused", sf.lit(-1)) < sf.col("timestamp"))
    # Of repeated pairs, the first row of the table. As one number, which Spark aggregates without sorting.
    place = sf.col(PART).cast("long") * sf.lit(_ROWS_OF_A_PART) + sf.col(ROW)
    pairs = taken.groupBy(*PAIR).agg(sf.min_by("timestamp", place).alias("timestamp"))
    of_user = sf.count("*").over(Window.partitionBy("user_id"))
    kept = pairs.withColumn("of_user", of_user).filter(sf.col("of_user") >= config.split.min_positives)
    if not kept.head(1):
        raise SplitError(
            f"The dataset {name} has no user with {config.split.min_positives} positives under `data.positives` = "
            f"{dict(config.positives)}. Remedy: lower `data.split.min_positives`, or name other events."
        )
    return kept.select(*COLUMNS)
