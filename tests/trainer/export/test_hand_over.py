"""Vectors for other engines: every item once, with what filters compare; Milvus finds what exact search finds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.export.hand_over import Format, Items, export_vectors, write_vectors
from trainer.export.milvus import load_into_milvus
from trainer.models.assembly import load_over
from trainer.runs import Run

pytestmark = pytest.mark.usefixtures("cache")
_IDS = ["新电影", "فيلم", "หนังใหม่", "새 영화", "🚀", 'quo"te, and\ncomma']


@pytest.fixture(scope="module")
def items() -> Items:
    """Made up, with ids in many scripts."""
    rng = np.random.default_rng(3)
    ids = [*_IDS, *(f"i{n}" for n in range(194))]
    languages = [["zh", "zh-tw"] if n % 2 == 0 else ["ko"] for n in range(len(ids))]
    categories = [["드라마", "sci-fi"][: n % 3] for n in range(len(ids))]
    return Items(ids, rng.normal(size=(len(ids), 16)).astype(np.float32), languages, categories)


def _written(folder: Path, items: Items, form: Format, size: int = 70) -> Path:
    folder.mkdir()
    parts = [slice(start, start + size) for start in range(0, len(items.item_ids), size)]
    files = write_vectors(folder / "vectors", items, form, parts)
    assert [file["rows"] for file in files] == [70, 70, 60]
    largest = {"id_bytes": 24, "language_bytes": 5, "languages": 2, "category_bytes": 9, "categories": 2}
    about = {"format": form, "items": len(items.item_ids), "dimension": 16, "files": files, "largest": largest}
    (folder / "manifest.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def _best(vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], ids: Sequence[str], k: int) -> list[str]:
    return [ids[row] for row in np.argsort(-(vectors.astype(np.float64) @ query), kind="stable")[:k]]


def test_a_run_hands_over_each_item_once(tiny_run: Run, tiny: Dataset, tmp_path: Path) -> None:
    run = Run.open(tiny_run.path, ["export.items_per_file=25"])
    output = export_vectors(run, tmp_path / "milvus", "milvus")
    about = json.loads((output / "manifest.json").read_text("utf-8"))
    tables = [pl.read_parquet(output / "vectors" / file["name"]) for file in about["files"]]
    assert [table.height for table in tables] == [25, 25, 11]
    table = pl.concat(tables)
    items = tiny.items().sort("item_id").collect()
    assert table["id"].to_list() == items["item_id"].to_list()
    assert table["languages"].to_list() == [[tag] for tag in items["language"]]
    assert table["categories"].to_list() == [sorted(map(str.lower, labels)) for labels in items["categories"]]
    model, known = load_over(run, Catalogue.from_dataset(tiny))
    np.testing.assert_allclose(table["vector"].to_list(), model.candidate_vectors(known).numpy(), rtol=1e-6)
    assert about["items"] == 61
    assert about["dimension"] == len(table["vector"][0])
    with pytest.raises(BabelrecError, match="exists already"):
        export_vectors(run, output, "milvus")
    few = Run.open(tiny_run.path, ["export.items_per_file=1"])
    with pytest.MonkeyPatch.context() as patched, pytest.raises(BabelrecError, match=r"Raise export\.items_per_file"):
        patched.setattr("trainer.export.hand_over._MOST_FILES", 60)
        export_vectors(few, tmp_path / "vertex", "vertex")
    assert not (tmp_path / "vertex").exists()


def test_formats_of_lines_hold_the_same(items: Items, tmp_path: Path) -> None:
    folder = _written(tmp_path / "vertex", items, "vertex")
    paths = sorted((folder / "vectors").iterdir())
    assert {path.suffix for path in paths} == {".json"}
    records = [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]
    assert [record["id"] for record in records] == items.item_ids
    vectors = np.array([record["embedding"] for record in records], np.float32)
    np.testing.assert_array_equal(vectors, items.vectors)
    assert records[0]["restricts"] == [{"namespace": "language", "allow": ["zh", "zh-tw"]}]
    assert records[5]["restricts"] == [
        {"namespace": "language", "allow": ["ko"]},
        {"namespace": "category", "allow": ["드라마", "sci-fi"]},
    ]
    rows: list[dict[str, Any]] = []
    for path in sorted((_written(tmp_path / "json", items, "milvus-json") / "vectors").iterdir()):
        rows += json.loads(path.read_text("utf-8"))
    assert [row["id"] for row in rows] == items.item_ids
    np.testing.assert_array_equal(np.array([row["vector"] for row in rows], np.float32), items.vectors)
    assert rows[5]["categories"] == ["드라마", "sci-fi"]


def test_an_item_twice_is_refused(items: Items, tmp_path: Path) -> None:
    twice = Items([*items.item_ids[:-1], items.item_ids[0]], items.vectors, items.languages, items.categories)
    with pytest.raises(BabelrecError, match="nothing is exported"):
        write_vectors(tmp_path / "vectors", twice, "milvus", [slice(0, 200)])


def test_milvus_finds_what_exact_search_finds(items: Items, tmp_path: Path) -> None:
    pymilvus = pytest.importorskip("pymilvus", reason="the extra [milvus] is not installed")
    folder = _written(tmp_path / "vectors", items, "milvus")
    uri = str(tmp_path / "milvus.db")
    assert load_into_milvus(folder, uri, "items", index="FLAT") == 200
    with pytest.raises(BabelrecError, match="exists at"):
        load_into_milvus(folder, uri, "items", index="FLAT")
    queries = np.random.default_rng(4).normal(size=(5, 16)).astype(np.float32)
    client = pymilvus.MilvusClient(uri)
    try:
        client.load_collection("items")
        found = client.search("items", data=queries.tolist(), limit=20, search_params={"metric_type": "IP"})
        wanted = [_best(items.vectors, query, items.item_ids, 20) for query in queries]
        assert [[hit["id"] for hit in hits] for hits in found] == wanted
        # As `languages` and `categories` of a request: zh allows zh-TW, and one category is enough.
        found = client.search(
            "items",
            data=queries.tolist(),
            limit=20,
            filter='ARRAY_CONTAINS_ANY(languages, ["zh"]) and ARRAY_CONTAINS_ANY(categories, ["드라마", "x"])',
            search_params={"metric_type": "IP"},
        )
        rows = [n for n in range(0, 200, 2) if n % 3]
        ids = [items.item_ids[n] for n in rows]
        wanted = [_best(items.vectors[rows], query, ids, 20) for query in queries]
        assert [[hit["id"] for hit in hits] for hits in found] == wanted
    finally:
        client.close()
