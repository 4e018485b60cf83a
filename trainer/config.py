"""Every setting of a run, typed and strict, with its default written here and nowhere else.

A run is one YAML file (see ``configs/``). Unknown keys are errors that name the nearest valid one,
values keep their types, and ``--set a.b=value`` overrides any key by its dotted path.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trainer.errors import BabelrecError


class Settings(BaseModel):
    """Base of all sections: unknown keys are refused, values are not coerced across types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


# Strict mode refuses a str for a Path and an int for a float; YAML has no other way to write them.
_Path = Annotated[Path, Field(strict=False)]
_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class MovieLens100kSource(Settings):
    """MovieLens-100k: 100,000 ratings of films with English titles."""

    name: Literal["movielens-100k"] = "movielens-100k"


class KmrdSource(Settings):
    """KMRD-small: ratings of films with Korean and English titles."""

    name: Literal["kmrd"] = "kmrd"
    path: _Path | None = Field(None, description="Folder of rates.csv, movies.txt, genres.csv, countries.csv.")
    title_language: Literal["ko", "en", "both"] = Field(
        "ko", description="Language of the items' titles; `both` keeps English as a translation of Korean."
    )


class MindSource(Settings):
    """MIND news impressions, with xMIND translations as further languages of the same articles."""

    name: Literal["mind"] = "mind"
    path: _Path | None = Field(None, description="Folder of behaviors.tsv and news.tsv.")
    translations: list[_Path] = Field(
        [], description="xMIND files (zip or tsv); the default is every xMIND file in `path`."
    )
    item_language: str | None = Field(
        None, description="Show articles in this language where a translation exists; null keeps the original."
    )


class ColumnMapping(Settings):
    """From the dataset format's column names to the names in the user's files."""

    interactions: dict[str, str] = {}
    items: dict[str, str] = {}
    users: dict[str, str] = {}


class TabularSource(Settings):
    """The user's own tables: CSV, TSV, JSONL or Parquet, told by their ending."""

    name: Literal["tabular"] = "tabular"
    interactions: _Path
    items: _Path
    users: _Path | None = None
    columns: ColumnMapping = ColumnMapping()
    default_event: str | None = Field(None, description="Event of every interaction when there is no event column.")
    list_separator: str = Field("|", min_length=1, description="Separator inside list columns of CSV files.")
    language: str | None = Field(
        None, description="BCP 47 language of all items without one; null detects each item's language."
    )


class DatasetSource(Settings):
    """A directory that already is in the dataset format (dataset.yaml and Parquet tables)."""

    name: Literal["dataset"] = "dataset"
    path: _Path


Source = Annotated[
    MovieLens100kSource | KmrdSource | MindSource | TabularSource | DatasetSource, Field(discriminator="name")
]


class SplitConfig(Settings):
    """How positives are divided into training, validation and test parts (EVALUATION P1)."""

    kind: Literal["per_user", "global"] = Field(
        "per_user", description="`per_user`: each user's last positives; `global`: everything after one moment."
    )
    test_fraction: _Fraction = 0.2
    validation_fraction: _Fraction = Field(0.2, description="Share of the training part held out for early stopping.")
    min_positives: int = Field(5, ge=1, description="Users with fewer positives are dropped before splitting.")


class DataConfig(Settings):
    """Which data, and what counts as a positive."""

    source: Source = MovieLens100kSource()
    positives: dict[str, float | None] = Field(
        {"rating": 4.0, "click": None, "purchase": None},
        description="Event -> smallest value that counts as positive (null: every such event).",
    )
    split: SplitConfig = SplitConfig()

    @field_validator("source", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class TextConfig(Settings):
    """The sentence encoder in front of the model."""

    encoder: str = Field("muse", description="`muse`, a TensorFlow Hub handle, or a local SavedModel directory.")
    table: Literal["float", "quantized"] = Field("float", description="Token table used in training.")
    trainable: bool = Field(False, description="Fine-tune the encoder; false caches its vectors on disk.")
    batch_size: int = Field(256, ge=1, description="Texts encoded at once when a catalogue is encoded.")
