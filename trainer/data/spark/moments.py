"""The moment after which a share of the events has happened, exactly, without sorting them."""

from typing import TYPE_CHECKING

from trainer.data.spark.settings import MOST_BUCKETS
from trainer.data.split import held_out_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def moment_of_last(times: "DataFrame", share: float) -> int | None:
    """When the last ``share`` of times begins; None if that is none of them.

    As on one machine: the earliest of the last ``ceil(share * n)`` of n times.

    Args:
        times: With a column ``timestamp``, int64.
        share: From 0 to 1.
    """
    from pyspark.sql import functions as sf

    found = times.agg(sf.count("*"), sf.min("timestamp"), sf.max("timestamp")).first()
    assert found is not None  # an aggregate has one row
    count, low, high = found
    wanted = held_out_of(count, share)
    if not count or not wanted:
        return None
    place = count - wanted
    # Ranges of time are counted, and the one with the place again in narrower ones: three passes for all of history.
    while low < high:
        width = -(-(high - low + 1) // MOST_BUCKETS)
        inside = times.filter(sf.col("timestamp").between(low, high))
        bucket = sf.expr(f"(timestamp - {low}) div {width}").alias("bucket")
        for number, size in sorted(tuple(row) for row in inside.groupBy(bucket).count().collect()):
            if place < size:
                low, high = low + number * width, min(high, low + (number + 1) * width - 1)
                break
            place -= size
    return int(low)
