"""Small valid tables for tests to modify."""

from pathlib import Path
from typing import Any

import polars as pl

from trainer.data.dataset import Dataset, write_dataset


def interactions(**columns: list[Any] | pl.Series) -> pl.DataFrame:
    """Four interactions of three users; ``columns`` replace or add columns."""
    base = pl.DataFrame(
        {
            "user_id": ["u1", "u1", "u2", "ü3"],
            "item_id": ["a", "b", "a", "日本"],
            "timestamp": [1_000_000_000, 1_000_000_100, 1_000_000_050, 1_000_000_060],
            "event": ["rating", "view", "click", "purchase"],
            "value": [4.0, None, None, 19.9],
        },
        schema_overrides={"value": pl.Float64},
    )
    return base.with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def items(**columns: list[Any] | pl.Series) -> pl.DataFrame:
    """Three items in three languages."""
    base = pl.DataFrame(
        {
            "item_id": ["a", "b", "日本"],
            "language": ["en", "ar", "ja"],
            "title": ["A plain title", "مرحبا بالعالم", "東京の物語 🎬"],
            "description": [None, "", "x" * 100_000],
            "categories": [["one", "two"], [], ["三"]],
        },
        schema_overrides={"categories": pl.List(pl.String)},
    )
    return base.with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def users(**columns: list[Any] | pl.Series) -> pl.DataFrame:
    """Two of the three users."""
    base = pl.DataFrame(
        {"user_id": ["u1", "u2"], "languages": [["en", "pt-BR"], []], "country": ["KR", None]},
        schema_overrides={"languages": pl.List(pl.String)},
    )
    return base.with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def translations(**columns: list[Any] | pl.Series) -> pl.DataFrame:
    """Two additional languages of item ``a``."""
    base = pl.DataFrame(
        {
            "item_id": ["a", "a"],
            "language": ["ko", "th"],
            "title": ["평범한 제목", "ชื่อเรื่องธรรมดา"],
            "description": [None, None],
        },
        schema_overrides={"description": pl.String},
    )
    return base.with_columns(**{name: pl.Series(values) for name, values in columns.items()})


def write(path: Path, **tables: pl.DataFrame | pl.LazyFrame | None) -> Dataset:
    """Writes a dataset of these tables, using the small ones by default."""
    chosen: dict[str, Any] = {"interactions": interactions(), "items": items()} | tables
    return write_dataset(path, name="small", description="d", licence="l", homepage="h", **chosen)
