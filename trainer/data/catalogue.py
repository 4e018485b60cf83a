"""A dataset's items as arrays: row ``i`` of every array describes item ``item_ids[i]``."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs

from trainer.data.dataset import Dataset
from trainer.data.ids import looked_up
from trainer.errors import BabelrecError

_NAMED_COLUMNS = frozenset({"item_id", "language", "title", "description", "categories", "entities"})


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items of one dataset, ordered by id.

    Attributes:
        item_ids: N ids, sorted.
        titles: N titles ("" where absent).
        texts: N texts for the sentence encoder: title and description.
        languages: N BCP 47 tags.
        category_labels: the K distinct category labels, sorted.
        categories: int32 [N, C] rows of ``category_labels``, padded with -1.
        numeric: float32 [N] per column, NaN where absent.
        embeddings: float32 [N, D] per column.
    """

    item_ids: list[str]
    titles: list[str]
    texts: list[str]
    languages: list[str]
    category_labels: list[str]
    categories: npt.NDArray[np.int32]
    numeric: dict[str, npt.NDArray[np.float32]]
    embeddings: dict[str, npt.NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> "Catalogue":
        """Reads the items table into memory."""
        items = dataset.items().sort("item_id").collect()
        titles = items["title"].fill_null("").to_list()
        if "description" in items.columns:
            texts = list(map(joined, titles, items["description"].fill_null("")))
        else:
            texts = titles
        labels, categories = _category_rows(items)
        others = items.drop([name for name in items.columns if name in _NAMED_COLUMNS])
        numeric = {
            name: others[name].cast(pl.Float32).fill_null(np.nan).to_numpy()
            for name in others.select(cs.numeric()).columns
        }
        embeddings = {
            name: _vectors(others[name])
            for name, dtype in others.schema.items()
            if isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_float()
        }
        return cls(
            item_ids=items["item_id"].to_list(),
            titles=titles,
            texts=texts,
            languages=items["language"].to_list(),
            category_labels=labels,
            categories=categories,
            numeric=numeric,
            embeddings=embeddings,
        )

    def labels(self, row: int) -> list[str]:
        """Category labels of the item at a row."""
        return [self.category_labels[label] for label in self.categories[row] if label >= 0]

    def rows(self, item_ids: pl.Series) -> npt.NDArray[np.int32]:
        """Row of each id, which may be coded (`trainer.data.ids`).

        Raises:
            BabelrecError: an id that is not in the catalogue.
        """
        return looked_up(item_ids, self._rows).to_numpy()

    def _rows(self, item_ids: pl.Series) -> pl.Series:
        index = pl.DataFrame({"item_id": self.item_ids}).with_row_index("row")
        joined = pl.DataFrame({"item_id": item_ids}).join(index, on="item_id", how="left", maintain_order="left")
        if joined["row"].null_count():
            missing = joined.filter(pl.col("row").is_null())["item_id"][0]
            raise BabelrecError(f"Item {missing!r} is not in the items table. Add it there or drop its interactions.")
        return joined["row"].cast(pl.Int32)


def joined(title: str, description: str) -> str:
    """The text of an item for the sentence encoder."""
    return f"{title}. {description}" if title and description else title or description


def _vectors(column: pl.Series) -> npt.NDArray[np.float32]:
    """Converts a column of equal-length lists to a matrix; a missing vector becomes zeros, which add nothing."""
    there = column.is_not_null().to_numpy()
    if not there.any():
        return np.zeros((len(column), 0), np.float32)
    known = np.stack(column.drop_nulls().to_list())
    matrix = np.zeros((len(column), known.shape[1]), np.float32)
    matrix[there] = known
    return matrix


def _category_rows(items: pl.DataFrame) -> tuple[list[str], npt.NDArray[np.int32]]:
    if "categories" not in items.columns:
        return [], np.full((items.height, 1), -1, np.int32)
    lists = [list(dict.fromkeys(value)) if value is not None else [] for value in items["categories"].to_list()]
    labels = sorted({label for value in lists for label in value if label})
    row_of = {label: row for row, label in enumerate(labels)}
    width = max((len(value) for value in lists), default=0) or 1
    rows = np.full((items.height, width), -1, np.int32)
    for position, value in enumerate(lists):
        known = [row_of[label] for label in value if label]
        rows[position, : len(known)] = known
    return labels, rows
