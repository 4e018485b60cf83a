"""The events of the training part by Spark: `trainer.data.split.Split.observed`."""

from typing import TYPE_CHECKING

from trainer.data.settings import DataConfig
from trainer.data.spark.parts import PART, ROW
from trainer.data.spark.positives import PAIR

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def not_observed(
    events: "DataFrame",
    train: "DataFrame",
    held_out: "DataFrame",
    cold: "DataFrame",
    begin: int | None,
    config: DataConfig,
) -> "DataFrame":
    """The places of the events that the training part does not have.

    Args:
        events: All of them.
        train: Training positives.
        held_out: Validation and test positives but those of cold items, which say nothing about time.
        cold: item_id of cold items.
        begin: When held-out impressions begin; None if there are none, or the split is another.
        config: The settings.
    """
    from pyspark.sql import functions as sf

    marked = events.join(held_out.select(*PAIR).withColumn("held", sf.lit(True)), on=PAIR, how="left")
    marked = marked.join(sf.broadcast(cold.withColumn("cold", sf.lit(True))), on="item_id", how="left")
    left_out = sf.coalesce("held", "cold", sf.lit(False))
    if config.split.kind == "global":
        first = held_out.agg(sf.min("timestamp")).first()
        begin = None if first is None else first[0]
    if begin is not None:
        left_out = left_out | (sf.col("timestamp") >= begin)
    if config.split.kind == "per_user":
        ends = held_out.groupBy("user_id").agg(sf.min("timestamp").alias("end"))
        trained = train.select(*PAIR).withColumn("trained", sf.lit(True))
        marked = marked.join(ends, on="user_id", how="left").join(trained, on=PAIR, how="left")
        # Of the events at exactly the cut time, only those of training positives are known to precede it.
        late = (sf.col("timestamp") > sf.col("end")) | (
            (sf.col("timestamp") == sf.col("end")) & ~sf.coalesce("trained", sf.lit(False))
        )
        left_out = left_out | sf.coalesce(late, sf.lit(False))
    return marked.filter(left_out).select(PART, ROW)
