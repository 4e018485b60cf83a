"""How often values occur in the training part: the vocabulary with its counts, and items that have users in common."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from trainer.data.prepared import FOLDER, split_key
from trainer.data.settings import DataConfig
from trainer.data.spark.places import for_spark, joined
from trainer.data.spark.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COUNTS: Final = "counts"
PAIRS: Final = "pairs"


def make_counts(session: "SparkSession", tables: Tables, config: DataConfig) -> None:
    """Writes ``counts/users``, ``items``, ``categories``, ``languages`` and ``events`` next to the split's parts.

    Each has a value and how many training positives and how many observed events have it. The values of users and items
    are those of `trainer.data.vocabulary.Vocabulary`; categories and languages are those of these items.
    """
    from pyspark.sql import functions as sf

    train, observed = _training(session, tables, config)
    folder = joined(tables.path, FOLDER, split_key(config), COUNTS)
    items = session.read.parquet(for_spark(joined(tables.path, "items"))).select("item_id", "language", "categories")
    of_items = _counted(train, observed, "item_id").persist()
    described = of_items.join(items, on="item_id")
    by_label = described.withColumn("category", sf.explode(sf.array_distinct("categories")))
    sums = [sf.sum(name).alias(name) for name in ("positives", "events")]
    found: Mapping[str, tuple[str, DataFrame]] = {
        "users": ("user_id", _counted(train, observed, "user_id")),
        "items": ("item_id", of_items),
        "categories": ("category", by_label.groupBy("category").agg(sf.count("*").alias("items"), *sums)),
        "languages": ("language", described.groupBy("language").agg(sf.count("*").alias("items"), *sums)),
        "events": ("event", observed.groupBy("event").agg(sf.count("*").alias("events"))),
    }
    for name, (key, rows) in found.items():
        rows.orderBy(key).write.parquet(for_spark(joined(folder, name)))
    of_items.unpersist()


def make_pairs(session: "SparkSession", tables: Tables, config: DataConfig) -> None:
    """Writes ``pairs``: item_id, other_id, and how many users have training positives of both.

    As `trainer.text.cooccurrence.CoOccurrence`, each pair once, the item whose id is the smaller first. It takes as
    many steps as the sum of the squared lengths of all histories.
    """
    from pyspark.sql import functions as sf

    train, _ = _training(session, tables, config)
    other = train.select("user_id", sf.col("item_id").alias("other_id"))
    pairs = train.select("user_id", "item_id").join(other, on="user_id").filter("item_id < other_id")
    counted = pairs.groupBy("item_id", "other_id").agg(sf.count("*").alias("users"))
    place = joined(tables.path, FOLDER, split_key(config), PAIRS)
    counted.orderBy("item_id", "other_id").write.parquet(for_spark(place))


def _training(session: "SparkSession", tables: Tables, config: DataConfig) -> tuple["DataFrame", "DataFrame"]:
    folder = joined(tables.path, FOLDER, split_key(config))
    train = session.read.parquet(for_spark(joined(folder, "train"))).select("user_id", "item_id")
    observed = session.read.parquet(for_spark(joined(folder, "observed"))).select("user_id", "item_id", "event")
    return train, observed


def _counted(train: "DataFrame", observed: "DataFrame", key: str) -> "DataFrame":
    from pyspark.sql import functions as sf

    both = train.select(key, sf.lit(1).alias("p"), sf.lit(0).alias("e")).unionByName(
        observed.select(key, sf.lit(0).alias("p"), sf.lit(1).alias("e"))
    )
    return both.groupBy(key).agg(sf.sum("p").alias("positives"), sf.sum("e").alias("events"))
