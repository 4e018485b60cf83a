"""Positives divided into training, validation and test parts by Spark, as `trainer.data.split` divides them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from trainer.data.settings import DataConfig
from trainer.data.spark.moments import moment_of_last
from trainer.data.spark.positives import by_time
from trainer.data.split import EPSILON, SplitError, cold_items

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True, eq=False)
class Division:
    """The parts, in no order.

    Attributes:
        train, validation, test: user_id, item_id, timestamp.
        cold: item_id of the items whose positives are all in the test part.
        begin: When the held-out parts begin for everybody, if they do so by impressions; else None.
    """

    train: "DataFrame"
    validation: "DataFrame"
    test: "DataFrame"
    cold: "DataFrame"
    begin: int | None = None


def divide(events: "DataFrame", positives: "DataFrame", name: str, config: DataConfig) -> Division:
    """Divides positives as configured.

    Args:
        events: Those of the dataset; for `impressions` with ``impression_id``.
        positives: Of them.
        name: Of the dataset, for error messages.
        config: The settings.

    Raises:
        SplitError: There are no impressions to divide by, or settings that exclude each other.
    """
    settings = config.split
    if settings.kind == "impressions":
        if settings.cold_items > 0.0:
            raise SplitError("`data.split.cold_items` can't be combined with `kind: impressions`. Remedy: set it to 0.")
        return _by_impressions(events, positives, name, config)

    def hold_out(rows: "DataFrame", fraction: float) -> tuple["DataFrame", "DataFrame"]:
        if settings.kind == "per_user":
            return _last_of_each_user(rows, fraction, settings.min_history, settings.whole_baskets)
        return _last_of_all(rows, fraction)

    rest, test = hold_out(positives, settings.test_fraction)
    cold = positives.select("item_id").limit(0)
    if settings.cold_items > 0.0:
        items = [row["item_id"] for row in positives.select("item_id").distinct().collect()]
        # The same draw as on one machine, which is of all items with positives.
        chosen = cold_items(pl.DataFrame({"item_id": items}), settings.cold_items, settings.cold_seed)
        cold = positives.sparkSession.createDataFrame([(item,) for item in chosen], "item_id string")
        test = test.unionByName(rest.join(cold, on="item_id", how="left_semi"))
        rest = rest.join(cold, on="item_id", how="left_anti")
    train, validation = hold_out(rest, settings.validation_fraction)
    return Division(train, validation, test, cold)


def _by_impressions(events: "DataFrame", positives: "DataFrame", name: str, config: DataConfig) -> Division:
    from pyspark.sql import functions as sf

    nothing = f"The dataset {name} has no impressions to split by (column `impression_id`). "
    nothing += "Remedy: choose another `data.split.kind`."
    if "impression_id" not in events.columns:
        raise SplitError(nothing)
    shown = events.filter(sf.col("impression_id").isNotNull()).groupBy("impression_id")
    times = shown.agg(sf.min("timestamp").alias("timestamp")).select("timestamp").persist()
    if not times.head(1):
        raise SplitError(nothing)
    test_begin = moment_of_last(times, config.split.test_fraction)
    before = times if test_begin is None else times.filter(sf.col("timestamp") < test_begin)
    validation_begin = moment_of_last(before, config.split.validation_fraction)
    times.unpersist()
    rest, test = _cut(positives, test_begin)
    train, validation = _cut(rest, validation_begin)
    begins = [moment for moment in (validation_begin, test_begin) if moment is not None]
    return Division(train, validation, test, positives.select("item_id").limit(0), min(begins, default=None))


def _last_of_each_user(
    rows: "DataFrame", fraction: float, least: int, whole_baskets: bool
) -> tuple["DataFrame", "DataFrame"]:
    from pyspark.sql import functions as sf
    from pyspark.sql.window import Window

    whole = Window.partitionBy("user_id")
    kept = sf.count("*").over(whole) - sf.ceil(sf.count("*").over(whole) * sf.lit(fraction) - sf.lit(EPSILON))
    place = sf.row_number().over(whole.orderBy(*by_time()))
    marked = rows.withColumn("held", (place > kept) & (place > least))
    if whole_baskets:
        time = sf.col("timestamp")
        cut = sf.min(sf.when(sf.col("held"), time)).over(whole)
        first = sf.min(time).over(whole)
        marked = marked.withColumn("cut", cut).withColumn("first", first)
        cut, first = sf.col("cut"), sf.col("first")
        together = sf.when(cut > first, time >= cut).otherwise((time > first) & cut.isNotNull())
        marked = marked.withColumn("held", together).drop("cut", "first")
    return marked.filter(~sf.col("held")).drop("held"), marked.filter("held").drop("held")


def _last_of_all(rows: "DataFrame", fraction: float) -> tuple["DataFrame", "DataFrame"]:
    return _cut(rows, moment_of_last(rows, fraction))


def _cut(rows: "DataFrame", moment: int | None) -> tuple["DataFrame", "DataFrame"]:
    from pyspark.sql import functions as sf

    if moment is None:
        return rows, rows.limit(0)
    return rows.filter(sf.col("timestamp") < moment), rows.filter(sf.col("timestamp") >= moment)
