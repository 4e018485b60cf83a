"""Vectors of a catalogue's texts, encoded by the workers of a Spark cluster into the cache that `fit` reads."""

import functools
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from trainer.data.catalogue import joined as joined_text
from trainer.data.spark.parts import shard_name
from trainer.data.spark.places import fetched, joined, put
from trainer.data.spark.settings import TEXTS_PER_FILE
from trainer.errors import BabelrecError
from trainer.text.preparation import prepare_labels, prepare_texts
from trainer.text.settings import TextConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from trainer.text.vectors import CatalogueEncoder

_LOG = logging.getLogger(__name__)


def encode_items(session: "SparkSession", items: str, shards: int, rows: int, config: TextConfig, cache: str) -> int:
    """Encodes every distinct text and category label of a catalogue once.

    Args:
        session: Of Spark.
        items: The directory of the items' shards.
        shards: How many there are.
        rows: Of all of them.
        config: The encoder, and how texts are prepared for it.
        cache: Where the vectors go: `trainer.text.vector_cache` reads it as ``vectors`` of the cache directory.

    Returns:
        The number of texts.

    Raises:
        BabelrecError: The texts are translated first, or the encoder is trained: its vectors can't be made before.
    """
    if config.translation.translator is not None:
        raise BabelrecError(
            "`text.translation` is not done by Spark, where every worker would ask the translator. Remedy: run without "
            "--vectors; `fit` translates."
        )
    if config.tuning.mode != "frozen":
        raise BabelrecError(
            f"`text.tuning.mode` is {config.tuning.mode}: the encoder is trained. Remedy: run without --vectors."
        )

    def read(part: int) -> list[tuple[str]]:
        return [(text,) for text in texts_of(joined(items, shard_name(part)), config)]

    texts = session.sparkContext.parallelize(range(shards), shards).flatMap(read)
    # Equal texts meet in one partition. One task encodes a file's worth.
    spread = session.createDataFrame(texts, "text string").repartition(-(-rows // TEXTS_PER_FILE), "text")

    # Not mapInPandas, which needs pandas: texts are all that is handed over.
    def encode(found: Iterable[Sequence[str]]) -> Iterator[int]:
        distinct = list(dict.fromkeys(row[0] for row in found))
        for begin in range(0, len(distinct), TEXTS_PER_FILE):
            yield encode_into(distinct[begin : begin + TEXTS_PER_FILE], config, cache)

    count = int(spread.rdd.mapPartitions(encode).sum())
    _LOG.info("Encoded %s distinct texts.", f"{count:,}")
    return count


def texts_of(shard: str, config: TextConfig) -> list[str]:
    """The distinct texts and labels of a shard of items, as the encoder reads them; see `trainer.data.catalogue`."""
    with tempfile.TemporaryDirectory(prefix="babelrec-") as folder:
        frame = pl.read_parquet(
            fetched(shard, Path(folder)), columns=["title", "description", "language", "categories"], glob=False
        )
    texts = list(map(joined_text, frame["title"].fill_null(""), frame["description"].fill_null("")))
    labels = frame["categories"].explode(empty_as_null=True).drop_nulls().unique().sort().to_list()
    prepared = prepare_texts(texts, frame["language"].to_list(), config)
    return list(dict.fromkeys([*prepared, *prepare_labels([label for label in labels if label], config)]))


def encode_into(texts: Sequence[str], config: TextConfig, cache: str) -> int:
    """Encodes distinct texts and puts their vectors into a cache of any file system; returns how many there are."""
    # TensorFlow, which the driver does without.
    from trainer.text.vector_cache import VectorCache, text_keys

    encoder, name = _encoder(config.model_dump_json())
    with tempfile.TemporaryDirectory(prefix="babelrec-") as folder:
        VectorCache(Path(folder)).append(text_keys(texts), encoder(texts))
        # The vectors first: a reader takes the index for their announcement.
        for file in sorted(Path(folder).glob("*.npy"), key=lambda path: path.name.endswith(".index.npy")):
            put(file, joined(cache, name, file.name))
    return len(texts)


@functools.lru_cache(maxsize=1)
def _encoder(config: str) -> tuple["CatalogueEncoder", str]:
    """One model for a worker's process, and the name of its cache."""
    from trainer.text.encoder import encoder_handle, load_encoder
    from trainer.text.vectors import CatalogueEncoder, cache_name

    settings = TextConfig.model_validate_json(config)
    handle = encoder_handle(settings)
    return CatalogueEncoder(load_encoder(handle), batch_size=settings.batch_size), cache_name(handle)
