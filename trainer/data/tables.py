"""The tables of the dataset format: their columns, types and events."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from trainer.data.query_features import QUERY_FEATURES

TEXT: Final = pl.String()
TEXTS: Final = pl.List(pl.String())
EMBEDDING: Final = pl.List(pl.Float32)

REQUIRED: Final[Mapping[str, Mapping[str, pl.DataType]]] = {
    "interactions": {"user_id": TEXT, "item_id": TEXT, "timestamp": pl.Int64(), "event": TEXT, "value": pl.Float64()},
    "items": {"item_id": TEXT, "language": TEXT, "title": TEXT, "description": TEXT, "categories": TEXTS},
    "users": {"user_id": TEXT, "languages": TEXTS, "country": TEXT},
    "translations": {"item_id": TEXT, "language": TEXT, "title": TEXT, "description": TEXT},
}
OPTIONAL: Final[Mapping[str, Mapping[str, pl.DataType]]] = {
    "interactions": {
        "impression_id": TEXT,
        "position": pl.Int32(),
        **{feature.name: TEXT for feature in QUERY_FEATURES},
    },
    "items": {"entities": TEXTS},
    "users": {
        feature.profile_column: TEXT for feature in QUERY_FEATURES if feature.profile_column not in REQUIRED["users"]
    },
    "translations": {},
}
# Seconds since 1970 reach this in the year 5138; milliseconds passed it in March 1973.
MILLISECONDS_FROM: Final = 100_000_000_000


def is_embedding(dtype: pl.DataType) -> bool:
    """Whether a column of this type is an embedding: a list of floats."""
    return isinstance(dtype, pl.List) and dtype.inner is not None and dtype.inner.is_float()
