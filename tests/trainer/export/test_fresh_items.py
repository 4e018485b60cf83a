"""Items that join after the export: they are scored as by a new export of the larger catalogue."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import tensorflow as tf

from serving import contract
from tests.trainer.export.options_run import ITEMS, options_run
from tests.trainer.export.test_export import check_defaults
from tests.trainer.models.test_statistics import flat
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset, write_dataset
from trainer.data.split import training_part
from trainer.export.export import export
from trainer.export.hand_over import export_vectors
from trainer.export.milvus import load_into_milvus
from trainer.models.assembly import fit_statistics
from trainer.models.statistics import load_statistics
from trainer.runs import Run

pytestmark = pytest.mark.usefixtures("cache")
_NEW: list[dict[str, Any]] = [
    {"item_id": "new-en", "language": "en", "title": "space ship returns", "categories": ["Sci-Fi"], "year": 2001.0},
    {"item_id": "new-ko", "language": "ko", "title": "연애 편지 속편", "categories": ["Romance", "Neu"], "year": None},
    # A language and labels that the run has never seen, and nothing but a title.
    {"item_id": "새것", "language": "de", "title": "Raumschiff", "categories": ["Weltraum", "Neu"], "year": 1999.0},
    {"item_id": "blank", "language": "th", "title": "", "categories": [], "year": None},
]
_GONE = ["i3", "i10"]
_CHANGED: dict[str, Any] = {"item_id": "i6", "title": "太空飞船 大结局", "language": "zh", "year": 1990.0}
# One request of each kind: history, language alone, text, a known user, history with a new item.
_REQUESTS: list[dict[str, Any]] = [
    {"history": ["i0", "i4", "i8"], "language": "ko", "timestamp": 1_600_000_000},
    {"user_id": "(somebody)", "country": "US"},
    {"query": "space ship returns", "history": ["i1"], "language": "en"},
    {"query": "연애 편지", "language": "ko"},
    {"history": ["i0", "new-en"], "language": "en"},
]
Signatures = Mapping[str, Callable[..., dict[str, tf.Tensor]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    exported: dict[str, object] = {"index": "brute_force", "candidates": ITEMS + 1, "fresh_items": True}
    return options_run(tmp_path_factory.mktemp("fresh"), {"*": ["nfkc", "casefold"]}, export=exported)


@pytest.fixture(scope="module")
def later(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The catalogue as it is later: new items, one changed, two gone."""
    own = run.dataset()
    items = own.items().collect()
    rows = [row for row in items.to_dicts() if row["item_id"] not in _GONE]
    rows = [row | (_CHANGED if row["item_id"] == _CHANGED["item_id"] else {}) for row in rows]
    vectors = np.random.default_rng(5).normal(size=(len(_NEW), 4)).astype(np.float32).tolist()
    rows += [{"description": None, "runtime": 90.0, "image": v} | new for new, v in zip(_NEW, vectors, strict=True)]
    kept = own.interactions().filter(~pl.col("item_id").is_in(_GONE)).collect()
    return write_dataset(
        tmp_path_factory.mktemp("later") / "data",
        name="later",
        description="",
        licence="made by the tests",
        homepage="",
        interactions=kept,
        items=pl.DataFrame(rows, schema=items.schema),
    )


def _signatures(version: Path) -> Signatures:
    loaded = tf.saved_model.load(str(version))
    found = dict(loaded.signatures.items())
    # The functions don't keep the object that holds their variables.
    found["__owner__"] = lambda: loaded
    return found


@pytest.fixture(scope="module")
def version(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("models") / "old")


@pytest.fixture(scope="module")
def old(version: Path) -> Signatures:
    return _signatures(version)


@pytest.fixture(scope="module")
def new(run: Run, later: Dataset, version: Path, tmp_path_factory: pytest.TempPathFactory) -> Signatures:
    assert version.exists()
    with pytest.MonkeyPatch.context() as patched:
        # The first export has stored them.
        patched.delattr("trainer.export.export.fit_statistics")
        return _signatures(export(run, tmp_path_factory.mktemp("models") / "new", later))


def test_an_export_stores_what_a_reindex_would_compute(run: Run, version: Path, tmp_path: Path) -> None:
    assert version.exists()
    stored = load_statistics(run)
    shutil.copytree(run.path, tmp_path / "run")
    dataset = run.dataset()
    parts = training_part(dataset, run.config)
    computed = fit_statistics(Run.open(tmp_path / "run"), Catalogue.from_dataset(dataset), parts)
    for (name, one), (other, another) in zip(flat(stored), flat(computed), strict=True):
        assert name == other
        if isinstance(one, np.ndarray):
            np.testing.assert_allclose(one, another, atol=1e-5, err_msg=name)
        else:
            assert one == another


def _strings(rows: list[list[str]]) -> tf.Tensor:
    width = max(map(len, rows), default=0)
    return tf.reshape(tf.constant([row + [""] * (width - len(row)) for row in rows], tf.string), [len(rows), width])


def _embed(signatures: Signatures, items: pl.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """The answers of `embed_items`, in requests of as many rows as it takes; lists are padded to the longest."""
    parts = [_embed_part(signatures, part) for part in items.iter_slices(100)]
    return {name: _stacked([part[name] for part in parts]) for name in parts[0]}


def _stacked(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, [(0, 0), (0, width - part.shape[1])]) for part in parts])


def _embed_part(signatures: Signatures, items: pl.DataFrame) -> dict[str, npt.NDArray[Any]]:
    answer = signatures[contract.EMBED_ITEMS](
        item_id=tf.constant(items["item_id"].to_list()),
        title=tf.constant(items["title"].to_list()),
        description=tf.constant(items["description"].fill_null("").to_list()),
        language=tf.constant(items["language"].to_list()),
        categories=_strings([labels or [] for labels in items["categories"].to_list()]),
        number_year=tf.constant(items["year"].fill_null(np.nan).cast(pl.Float32).to_list()),
        number_runtime=tf.constant(items["runtime"].cast(pl.Float32).to_list()),
        embedding_image=tf.constant([row or [0.0] * 4 for row in items["image"].to_list()]),
    )
    return {key: value.numpy() for key, value in answer.items()}


def _ask(signatures: Signatures, name: str, request: dict[str, Any], **others: tf.Tensor) -> dict[str, Any]:
    inputs = dict(others)
    for key, each in contract.SIGNATURES[name].items():
        if key in inputs or each.rank == 3:
            continue
        value = request.get(key, [] if each.rank == 2 else each.default)
        inputs[key] = _strings([value or []]) if each.rank == 2 else tf.constant([value], each.dtype)
    if name == contract.RECOMMEND_FOR_MERGE and "history_embeddings" not in inputs:
        inputs["history_embeddings"] = tf.zeros([1, 0, 0])
    return {key: value.numpy()[0] for key, value in signatures[name](**inputs).items()}


def test_inputs_have_their_defaults(version: Path) -> None:
    names = check_defaults(version, frozenset({"number_year", "number_runtime", "embedding_image"}))
    assert names == contract.SIGNATURES.keys() - {contract.SHARD_CONTEXT, contract.SHARD_RETRIEVE, contract.SHARD_RANK}


def test_what_the_index_holds_is_sealed_unless_it_changed(old: Signatures, later: Dataset) -> None:
    items = later.items().sort("item_id").collect()
    # Another label, and the same labels in another order.
    labels = pl.col("categories")
    items = items.with_columns(
        pl.when(pl.col("item_id") == "i20").then(pl.concat_list(labels, pl.lit("Neu"))).otherwise(labels.list.reverse())
    )
    sealed = dict(zip(items["item_id"], _embed(old, items)[contract.SEALED], strict=True))
    others = {_CHANGED["item_id"], "i20", *(n["item_id"] for n in _NEW)}
    assert {item for item, value in sealed.items() if not value} == others


def test_vectors_are_those_of_a_new_export(old: Signatures, new: Signatures, later: Dataset) -> None:
    items = later.items().sort("item_id").collect()
    before, after = _embed(old, items), _embed(new, items)
    assert after[contract.SEALED].all()  # that is, they are also those in its index, to 1e-3
    assert before[contract.EMBEDDINGS].std() > 0.05
    for name in (contract.EMBEDDINGS, contract.TEXT_EMBEDDINGS, contract.GRAM_SCORES):
        np.testing.assert_allclose(before[name], after[name], atol=1e-5, err_msg=name)


def _merged(
    old: Signatures, items: pl.DataFrame, request: dict[str, Any], fresh: list[str]
) -> dict[str, tuple[float, dict[str, float]]]:
    """Every item's score and heads, from the sealed index and the fresh items, by sums and products written here."""
    all_of_them = request | {"k": ITEMS + 1, "include_seen": True}
    vectors = _embed(old, items.filter(pl.col("item_id").is_in(fresh)).sort("item_id"))
    order = sorted(fresh)
    width = vectors[contract.EMBEDDINGS].shape[1]
    history = request.get("history", [])
    embeddings = np.zeros((1, len(history), width), np.float32)
    for place, item in enumerate(history):
        if item in fresh:
            embeddings[0, place] = vectors[contract.EMBEDDINGS][order.index(item)]
    answer = _ask(old, contract.RECOMMEND_FOR_MERGE, all_of_them, history_embeddings=tf.constant(embeddings))
    heads = [name for name in answer if name.startswith(("probability_", "predicted_"))]
    found = {
        item.decode(): (float(answer["scores"][place]), {head: float(answer[head][place]) for head in heads})
        for place, item in enumerate(answer["item_ids"])
        if item and item.decode() not in {*_GONE, *fresh}
    }
    fits = np.zeros(len(order), np.float32)
    typed = bool(request.get("query"))
    if typed:
        meaning, popularity = vectors[contract.TEXT_EMBEDDINGS][:, :-1], vectors[contract.TEXT_EMBEDDINGS][:, -1]
        fits = meaning @ answer[contract.TEXT_EMBEDDINGS][:-1]
        for row in range(len(order)):
            own = dict(zip(vectors[contract.GRAM_BUCKETS][row], vectors[contract.GRAM_SCORES][row], strict=True))
            buckets = [bucket for bucket in answer[contract.GRAM_BUCKETS] if bucket >= 0]
            share = sum(own.get(bucket, 0.0) for bucket in buckets) / answer[contract.GRAM_WEIGHTS].sum()
            fits[row] += answer[contract.LEXICAL_WEIGHTS] * min(share, 1.0) ** 2
        # A query that names a new item describes no category either.
        describes = np.clip((0.45 - max(answer[contract.NAMED], fits.max())) / 0.2, 0.0, 1.0)
        for row in range(len(order)):
            similar = sum(answer[contract.LABEL_SIMILARITIES][label] for label in vectors[contract.LABELS][row])
            fits[row] += popularity[row] + describes * vectors[contract.LABEL_NORMS][row] * similar
    scored = old[contract.SCORE_EMBEDDINGS](
        query_embeddings=tf.constant(answer[contract.QUERY_EMBEDDINGS][np.newaxis]),
        embeddings=tf.constant(vectors[contract.EMBEDDINGS][np.newaxis]),
        fits=tf.constant(fits[np.newaxis]),
        typed=tf.constant([typed]),
    )
    for row, item in enumerate(order):
        found[item] = float(scored["scores"][0, row]), {head: float(scored[head][0, row]) for head in heads}
    return found


@pytest.mark.parametrize("number", range(len(_REQUESTS)))
def test_scores_are_those_of_a_new_export(old: Signatures, new: Signatures, later: Dataset, number: int) -> None:
    request = _REQUESTS[number]
    items = later.items().collect()
    if "user_id" in request:
        # The graph's own histories lose what is gone; a service gives histories itself.
        met = later.interactions().group_by("user_id").agg(pl.col("item_id")).sort("user_id").collect()
        others = [user for user, own in met.iter_rows() if len(own) == 16 and _CHANGED["item_id"] not in own]
        request = request | {"user_id": others[0]}
    fresh = [_CHANGED["item_id"], *(str(each["item_id"]) for each in _NEW)]
    merged = _merged(old, items, request, [str(item) for item in fresh])
    expected = _ask(new, contract.RECOMMEND, request | {"k": ITEMS + 10, "include_seen": True})
    ids = [item.decode() for item in expected["item_ids"] if item]
    assert set(ids) == set(merged) == set(items["item_id"])
    # Sealed items are not scored again when a query turns out to name a new one.
    names_new = request.get("query") == _NEW[0]["title"]
    same = [place for place, item in enumerate(ids) if item in fresh or not names_new]
    np.testing.assert_allclose([merged[ids[place]][0] for place in same], expected["scores"][same], atol=1e-4)
    assert not names_new or ids[0] == max(merged, key=lambda item: merged[item][0]) == "new-en"
    for head in (name for name in expected if name.startswith(("probability_", "predicted_"))):
        np.testing.assert_allclose([merged[i][1][head] for i in ids], expected[head][: len(ids)], atol=1e-4)


@pytest.mark.parametrize("number", range(len(_REQUESTS)))
def test_what_exceeds_the_cutoff_is_what_may_be_in_the_answer(old: Signatures, number: int) -> None:
    request = _REQUESTS[number] | {"include_seen": True}
    answer = _ask(old, contract.RECOMMEND_FOR_MERGE, request | {"k": 6})
    found = _ask(old, contract.RETRIEVE, request | {"k": ITEMS + 1})
    retrieved = dict(zip(found["item_ids"], found["scores"], strict=True))
    cutoff = answer[contract.CUTOFFS]
    shown = set(answer["item_ids"])
    # The last one is where the cutoff is, and others may be as popular.
    assert all(retrieved[item] > cutoff - 1e-5 for item in answer["item_ids"])
    # The towers may change the order of what fits a text.
    above = [item for item, score in retrieved.items() if score > cutoff + 1e-5 and item not in shown]
    assert above == [] or "query" in request
    assert len(above) < ITEMS / 2
    everything = _ask(old, contract.RECOMMEND_FOR_MERGE, request | {"k": ITEMS + 2})
    assert everything[contract.CUTOFFS] == contract.LOWEST_SCORE


def test_another_engine_finds_what_retrieve_finds(run: Run, old: Signatures, tmp_path: Path) -> None:
    pymilvus = pytest.importorskip("pymilvus", reason="the extra [milvus] is not installed")
    output = export_vectors(run, tmp_path / "vectors", "milvus")
    uri = str(tmp_path / "milvus.db")
    load_into_milvus(output, uri, "items", index="FLAT")
    client = pymilvus.MilvusClient(uri)
    try:
        client.load_collection("items")
        for request in (_REQUESTS[0], {"user_id": "u1", "include_seen": True}):
            said = request | {"k": 20, "include_seen": True}
            query = _ask(old, contract.RECOMMEND_FOR_MERGE, said)[contract.QUERY_EMBEDDINGS]
            (found,) = client.search("items", data=[query.tolist()], limit=20, search_params={"metric_type": "IP"})
            wanted = _ask(old, contract.RETRIEVE, said)
            assert [hit["id"] for hit in found] == [item.decode() for item in wanted[contract.ITEM_IDS]]
            assert [hit["distance"] for hit in found] == pytest.approx(wanted[contract.SCORES].tolist(), abs=1e-4)
    finally:
        client.close()
