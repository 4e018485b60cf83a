"""Values that the model knows by id, taken from the training part alone."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.heads import Head, choose_heads, constant_heads
from trainer.data.ids import ID_COLUMNS, distinct
from trainer.data.query_features import QUERY_FEATURES, QueryFeature
from trainer.data.split import Split
from trainer.errors import BabelrecError
from trainer.files import write_text

# Index 0 of every vocabulary means "unknown"; known values start at 1.
UNKNOWN = 0


@dataclass(frozen=True)
class Vocabulary:
    """Known values of each categorical feature and bin edges of numeric ones.

    Nothing here comes from validation or test interactions: an item found only there is
    unknown by id and is placed by its content.

    Attributes:
        users, items, categories: known values; value ``v`` of a list has
            index ``list.index(v) + 1``, 0 is unknown.
        query_values: feature of a request (`trainer.data.query_features`) -> its known values; languages are also
            those of items.
        numeric: column -> increasing bin edges (quantiles over training items).
        embeddings: column -> dimension.
        events: events of the training part, sorted; they determine the ranking heads.
        constant_heads: heads that are left out, because their labels are all equal, and that label.
    """

    users: list[str]
    items: list[str]
    categories: list[str]
    query_values: dict[str, list[str]]
    numeric: dict[str, list[float]]
    embeddings: dict[str, int]
    events: list[str]
    constant_heads: dict[str, float | None] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        """Known languages, of requests and of items."""
        return self.query_values["language"]

    @classmethod
    def from_training(
        cls,
        dataset: Dataset,
        catalogue: Catalogue,
        split: Split,
        config: Config,
        languages_of_texts: Iterable[str] = (),
    ) -> "Vocabulary":
        """Collects the values of the training part (``split.train`` and ``split.observed``).

        ``languages_of_texts`` are included as well: those of translations, if training uses them.
        """
        users, items = (distinct(split.train[name], split.observed[name]) for name in ID_COLUMNS)
        rows = np.unique(catalogue.rows(pl.Series("item_id", items)))
        labels = {catalogue.category_labels[label] for label in np.unique(catalogue.categories[rows]) if label >= 0}
        languages = {catalogue.languages[row] for row in rows} | set(languages_of_texts)
        values = {feature.name: _values(feature, dataset, users, split.observed) for feature in QUERY_FEATURES}
        values["language"] |= languages
        candidate = config.model.candidate
        events = sorted(split.observed["event"].unique())
        return cls(
            users=users,
            items=items,
            categories=sorted(labels),
            query_values={name: sorted(known - {""}) for name, known in values.items()},
            numeric={
                name: _quantile_edges(catalogue.numeric[name][rows], candidate.numeric_bins)
                for name in _chosen(candidate.numeric, catalogue.numeric, "numeric")
            },
            embeddings={
                name: int(catalogue.embeddings[name].shape[1])
                for name in _chosen(candidate.embeddings, catalogue.embeddings, "embedding")
            },
            events=events,
            constant_heads=constant_heads(split.observed, choose_heads(events, config.data.positives)),
        )

    def heads(self, positives: Mapping[str, float | None]) -> list[Head]:
        """The ranking heads of a model with this vocabulary; ``positives`` as in `choose_heads`."""
        return choose_heads(self.events, positives, self.constant_heads)

    def with_bins_of(self, other: "Vocabulary") -> "Vocabulary":
        """The same with another vocabulary's bins of the numeric columns that both have."""
        return replace(self, numeric={name: other.numeric.get(name, edges) for name, edges in self.numeric.items()})

    def save(self, path: Path) -> None:
        """Writes JSON, atomically."""
        write_text(path, json.dumps(asdict(self), ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            BabelrecError: the file is missing or broken.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise BabelrecError(f"{path} is not a readable vocabulary ({error}). Run `fit` again.") from error


def index_of(values: list[str]) -> dict[str, int]:
    """Maps value -> index, from 1; look up with ``.get(value, UNKNOWN)``."""
    return {value: position for position, value in enumerate(values, start=1)}


def _values(feature: QueryFeature, dataset: Dataset, users: list[str], observed: pl.DataFrame) -> set[str]:
    """Values in users' profiles and the observed interactions."""
    found: set[str] = set()
    profiles = dataset.users()
    if profiles is not None and feature.profile_column in profiles.collect_schema().names():
        known = profiles.filter(pl.col("user_id").is_in(users)).select(feature.profile_column).collect().to_series()
        found |= set((known.explode() if known.dtype == pl.List else known).drop_nulls())
    if feature.name in observed.columns:
        found |= set(observed[feature.name].drop_nulls())
    return found


def _chosen(wanted: list[str] | None, available: Mapping[str, object], kind: str) -> list[str]:
    if wanted is None:
        return sorted(available)
    for name in wanted:
        if name not in available:
            raise BabelrecError(
                f"model.candidate lists the {kind} column {name!r}, which the items table does not have. "
                f"It has: {', '.join(sorted(available)) or 'none'}."
            )
    return sorted(wanted)


def _quantile_edges(values: npt.NDArray[np.floating], bins: int) -> list[float]:
    known = values[np.isfinite(values)]
    if known.size == 0:
        return [0.0, 1.0]
    # As float32, the tower's type: edges that differ only in float64 would make empty bins.
    edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, bins + 1)).astype(np.float32))
    if edges.size == 1:
        edges = np.append(edges, edges[0] + np.maximum(np.float32(1.0), np.abs(edges[0]) * np.float32(1e-3)))
    return [float(edge) for edge in edges]
