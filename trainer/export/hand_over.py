"""`export-vectors`: the items' vectors in the import formats of vector databases, for indexes beyond one machine.

An engine of its own then searches them by inner product: with the query vector that the served model gives
(`query_embeddings` of `recommend_for_merge`) it finds what `retrieve` finds. Languages and categories come along as the
filters of a request compare them: in lower case, and for ``zh-TW`` also ``zh``.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import training_part
from trainer.errors import BabelrecError
from trainer.export.filters import language_ranges
from trainer.files import atomic_directory
from trainer.models.assembly import fit_statistics, load_over
from trainer.models.statistics import load_statistics
from trainer.runs import Run

_LOG = logging.getLogger(__name__)
FORMATS: Final = ("milvus", "milvus-json", "vertex")
Format = Literal["milvus", "milvus-json", "vertex"]
MANIFEST: Final = "manifest.json"
VECTORS: Final = "vectors"
# Vertex AI reads at most this many files of a directory.
_MOST_FILES: Final = 5_000


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Items to hand over.

    Attributes:
        item_ids: n ids.
        vectors: Float32 [n, D].
        languages: Language ranges of each, in lower case.
        categories: Category labels of each, in lower case, each once.
    """

    item_ids: list[str]
    vectors: npt.NDArray[np.float32]
    languages: list[list[str]]
    categories: list[list[str]]

    @classmethod
    def of(cls, catalogue: Catalogue, vectors: npt.NDArray[np.float32]) -> "Items":
        """A catalogue's, with its vectors [N, D]."""
        return cls(
            catalogue.item_ids,
            vectors,
            [language_ranges(language) for language in catalogue.languages],
            [sorted({label.lower() for label in catalogue.labels(row)}) for row in range(len(catalogue))],
        )

    def part(self, rows: slice) -> "Items":
        """Some consecutive items."""
        return Items(self.item_ids[rows], self.vectors[rows], self.languages[rows], self.categories[rows])


def export_vectors(
    run: Run, output: Path, form: Format, later: Dataset | None = None, items_per_file: int | None = None
) -> Path:
    """Writes the vectors of a run's items: files in ``output/vectors``, and ``output/manifest.json`` about them.

    Args:
        run: A finished run.
        output: A directory that doesn't exist; it appears when it is complete.
        form: ``milvus``: Parquet, and ``milvus-json``: JSON, for Milvus's bulk import; ``vertex``: JSON lines for
            Vertex AI Vector Search.
        later: Its items in place of the run's, as for `trainer.export.export.export`.
        items_per_file: Largest number of items of a file; None: ``export.items_per_file``.

    Returns:
        ``output``.

    Raises:
        BabelrecError: the run is not finished, ``output`` exists, or there would be too many files.
    """
    if output.exists():
        raise BabelrecError(f"--output {output} exists already. Give a directory that doesn't.")
    dataset = later or run.dataset()
    catalogue = Catalogue.from_dataset(dataset)
    size = items_per_file or run.config.export.items_per_file
    parts = [slice(start, start + size) for start in range(0, len(catalogue), size)]
    if form == "vertex" and len(parts) > _MOST_FILES:
        raise BabelrecError(
            f"{len(catalogue):,} items in files of {size:,} are {len(parts):,} files, but Vertex AI reads at most "
            f"{_MOST_FILES:,}. Raise export.items_per_file."
        )
    if load_statistics(run) is None:
        own = run.dataset()
        fit_statistics(run, Catalogue.from_dataset(own), training_part(own, run.config))
    model, table = load_over(run, catalogue)
    items = Items.of(catalogue, model.candidate_vectors(table).numpy())
    with atomic_directory(output) as temporary:
        _LOG.info("Writing %s vectors to %s.", f"{len(catalogue):,}", output)
        about = _about(run, dataset, items, form)
        about["files"] = write_vectors(temporary / VECTORS, items, form, parts)
        (temporary / MANIFEST).write_text(json.dumps(about, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return output


def write_vectors(directory: Path, items: Items, form: Format, parts: Sequence[slice]) -> list[dict[str, Any]]:
    """Writes a file for each part; returns name, rows, bytes and SHA-256 of each.

    Raises:
        BabelrecError: The files don't hold each item once.
    """
    suffix, write = _WRITERS[form]
    directory.mkdir()
    files: list[dict[str, Any]] = []
    for number, rows in enumerate(parts):
        part = items.part(rows)
        path = directory / f"part-{number:05d}-of-{len(parts):05d}.{suffix}"
        write(path, part)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append({"name": path.name, "rows": len(part.item_ids), "bytes": path.stat().st_size, "sha256": digest})
    written = sum(file["rows"] for file in files)
    if written != len(items.item_ids) or len(set(items.item_ids)) != written:
        raise BabelrecError(f"{written:,} vectors were written for {len(items.item_ids):,} items; nothing is exported.")
    return files


def _about(run: Run, dataset: Dataset, items: Items, form: Format) -> dict[str, Any]:
    def longest(values: Iterator[str]) -> int:
        return max((len(value.encode()) for value in values), default=0)

    return {
        "schema": 1,
        "format": form,
        "items": len(items.item_ids),
        "dimension": int(items.vectors.shape[1]),
        "metric": "inner product",
        "weights": run.weights_digest(),
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "licence": dataset.licence},
        # What a schema with lengths needs.
        "largest": {
            "id_bytes": longest(iter(items.item_ids)),
            "language_bytes": longest(tag for tags in items.languages for tag in tags),
            "languages": max(map(len, items.languages), default=0),
            "category_bytes": longest(label for labels in items.categories for label in labels),
            "categories": max(map(len, items.categories), default=0),
        },
    }


def table_of(items: Items) -> pl.DataFrame:
    """The columns of the collection in Milvus: id, vector, languages, categories."""
    return pl.DataFrame(
        {
            "id": pl.Series(items.item_ids, dtype=pl.String),
            "vector": pl.Series(items.vectors, dtype=pl.Array(pl.Float32, items.vectors.shape[1])).arr.to_list(),
            "languages": pl.Series(items.languages, dtype=pl.List(pl.String)),
            "categories": pl.Series(items.categories, dtype=pl.List(pl.String)),
        }
    )


def _write_parquet(path: Path, items: Items) -> None:
    table_of(items).write_parquet(path)


def _write_json(path: Path, items: Items) -> None:
    """A list of rows, one on each line."""
    with path.open("w", encoding="utf-8") as file:
        for place, row in enumerate(table_of(items).iter_rows(named=True)):
            file.write(("," if place else "[") + "\n" + json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")


def _write_vertex(path: Path, items: Items) -> None:
    """One record a line; an item without categories has no restriction by them."""
    with path.open("w", encoding="utf-8") as file:
        rows = zip(items.item_ids, items.vectors.tolist(), items.languages, items.categories, strict=True)
        for item, vector, languages, categories in rows:
            restricts = [{"namespace": "language", "allow": languages}, {"namespace": "category", "allow": categories}]
            record = {"id": item, "embedding": vector, "restricts": [each for each in restricts if each["allow"]]}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


_WRITERS: Final[dict[Format, tuple[str, Callable[[Path, Items], None]]]] = {
    "milvus": ("parquet", _write_parquet),
    "milvus-json": ("json", _write_json),
    "vertex": ("json", _write_vertex),
}
