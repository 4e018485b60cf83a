"""The portable export: TensorFlow's and TF-Text's ops alone, loaded and run by the C API; its partitioned search."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the graph's operations)
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf import saved_model_pb2

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.export.build import make_index, make_text_retrieval
from trainer.export.export import export
from trainer.export.index import BruteForceIndex, IndexSettings, choose_index
from trainer.export.partitions import partition
from trainer.export.portable import PortableIndex
from trainer.export.settings import ExportConfig
from trainer.export.text_search import ExactTextRetrieval, IndexedTextRetrieval
from trainer.models.text_search import SearchFeatures, SearchWeights, TextSearch
from trainer.runs import Run
from trainer.text.language_means import LanguageMeans
from trainer.text.lexical import LexicalIndex
from trainer.training.fit import fit

pytestmark = pytest.mark.usefixtures("cache")
Vectors = npt.NDArray[np.float32]
_PROGRAM = Path(__file__).with_name("capi.py")


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


# What the stock image links beside TensorFlow: tensorflow_text:ops_lib, in tensorflow_serving/model_servers/BUILD.
TEXT_LIBRARIES = sorted(str(path) for path in package("tensorflow_text").glob("python/*/_*.so"))
SCANN_LIBRARY = str(package("scann") / "scann_ops" / "cc" / "_scann_ops.so")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("portable")
    dataset = tiny_dataset(folder / "dataset", items=600, users=120)
    config = tiny_config(
        dataset.path,
        training={"epochs": 1, "refit": False, "batch_size": 64},
        export={"index": "portable", "leaves": 24, "exact_limit": 40, "candidates": 20},
    )
    return fit(config, folder / "run")


@pytest.fixture(scope="module")
def partitioned(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("models") / "partitioned")


@pytest.fixture(scope="module")
def exact(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Run.open(run.path, ["export.leaves=null"]), tmp_path_factory.mktemp("models") / "exact")


@pytest.fixture(scope="module")
def scann(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Run.open(run.path, ["export.index=scann"]), tmp_path_factory.mktemp("models") / "scann")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Ops that TensorFlow and TF-Text register, told by a process that has nothing else."""
    path = tmp_path_factory.mktemp("registry") / "ops.pb"
    subprocess.run([sys.executable, str(_PROGRAM), "registry", str(path), *TEXT_LIBRARIES], check=True)
    return {op.name for op in op_def_pb2.OpList.FromString(path.read_bytes()).op}


def ops(version: Path) -> set[str]:
    """Types of all nodes of a SavedModel, in its graph and in its functions."""
    model = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    found = set()
    for meta_graph in model.meta_graphs:
        library = meta_graph.graph_def.library
        names = {function.signature.name for function in library.function}
        nodes = [*meta_graph.graph_def.node, *(node for function in library.function for node in function.node_def)]
        # A node whose type is the name of a function calls it.
        found |= {node.op for node in nodes} - names
    return found


def mixed_batch(size: int) -> dict[str, npt.NDArray[Any]]:
    """A mixed batch: a user, a history, texts in several languages, filters, nothing at all."""
    lines = [
        {"user_id": "u3", "k": 10},
        {"history": "i4", "k": 7},
        {"query": "우주선", "language": "ko", "k": 12},
        {"query": "太空飞船", "languages": "zh", "k": 9},
        {"query": "love letter", "categories": "Old", "exclude": "i0", "k": 10},
        {"k": 5, "language": "ko"},
    ]
    chosen = [lines[place % len(lines)] for place in range(size)]
    texts = {
        name: np.array([str(line.get(name, "")).encode() for line in chosen], np.bytes_)
        for name in ("user_id", "query", "language", "country")
    }
    lists = {
        name: np.array([[str(line.get(name, "")).encode()] for line in chosen], np.bytes_)
        for name in ("history", "exclude", "languages", "categories")
    }
    return (
        texts
        | lists
        | {
            "timestamp": np.zeros(size, np.int64),
            "k": np.array([line["k"] for line in chosen], np.int32),
            "include_seen": np.arange(size) % 2 == 0,
        }
    )


def in_python(version: Path, signature: str, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    function = tf.saved_model.load(str(version)).signatures[signature]
    given = {
        name: tf.constant(value.tolist() if value.dtype.kind == "S" else value, name=name)
        for name, value in inputs.items()
    }
    return {name: value.numpy() for name, value in function(**given).items()}


def by_c_api(
    version: Path, signature: str, inputs: dict[str, npt.NDArray[Any]], folder: Path, libraries: list[str]
) -> "subprocess.CompletedProcess[str] | dict[str, npt.NDArray[Any]]":
    """Answers by alias, or what the failed process left."""
    model = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    definition = model.meta_graphs[0].signature_def[signature]
    feeds, fetches, answers = folder / "feeds.npz", folder / "fetches.json", folder / "answers.npz"
    np.savez(feeds, **{definition.inputs[alias].name: value for alias, value in inputs.items()})  # type: ignore[arg-type]
    fetches.write_text(json.dumps({alias: info.name for alias, info in definition.outputs.items()}), encoding="utf-8")
    paths = [str(path) for path in (version, feeds, fetches, answers)]
    done = subprocess.run(
        [sys.executable, str(_PROGRAM), "run", *paths, *libraries], capture_output=True, text=True, check=False
    )
    return dict(np.load(answers)) if done.returncode == 0 else done


@pytest.mark.parametrize("kind", ["partitioned", "exact"])
def test_every_op_of_the_graph_is_registered_without_scann(
    request: pytest.FixtureRequest, kind: str, registered: set[str]
) -> None:
    assert "SentencepieceTokenizeOp" in registered
    assert "MatMul" in registered
    assert not {name for name in registered if name.startswith("Scann>")}
    found = ops(request.getfixturevalue(kind))
    assert "SentencepieceTokenizeOp" in found
    assert found <= registered


def test_the_scann_export_needs_scanns_ops_and_no_others(scann: Path, registered: set[str]) -> None:
    missing = ops(scann) - registered
    assert missing
    assert all(name.startswith("Scann>") for name in missing)


@pytest.mark.parametrize(
    ("kind", "libraries"),
    [
        ("partitioned", TEXT_LIBRARIES),
        ("exact", TEXT_LIBRARIES),
        ("scann", [*TEXT_LIBRARIES, SCANN_LIBRARY]),
    ],
)
def test_the_c_api_answers_as_python_does(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, libraries: list[str]
) -> None:
    version = request.getfixturevalue(kind)
    # Many lines, so that the way of large batches is taken as well; filters take that of single ones.
    inputs = mixed_batch(18)
    expected = in_python(version, "recommend", inputs)
    answers = by_c_api(version, "recommend", inputs, tmp_path, libraries)
    assert isinstance(answers, dict), answers.stderr
    assert answers.keys() == expected.keys()
    for name in ("item_ids", "languages", "titles"):
        assert answers[name].tolist() == expected[name].tolist()
    for name in expected.keys() - {"item_ids", "languages", "titles"}:
        np.testing.assert_allclose(answers[name], expected[name], rtol=1e-4, atol=1e-5)
    assert all(line[0] for line in answers["item_ids"].tolist())


@pytest.mark.parametrize(
    ("kind", "libraries", "missing"),
    [
        ("scann", TEXT_LIBRARIES, "Op type not registered 'Scann>"),
        ("partitioned", [], "Op type not registered 'Sentencepiece"),
    ],
)
def test_a_missing_op_library_is_told_by_the_loader(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, libraries: list[str], missing: str
) -> None:
    failed = by_c_api(request.getfixturevalue(kind), "recommend", mixed_batch(2), tmp_path, libraries)
    assert isinstance(failed, subprocess.CompletedProcess)
    assert missing in failed.stderr


def test_the_card_names_the_partitions(run: Run, partitioned: Path, exact: Path) -> None:
    card = json.loads((partitioned / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))["index"]
    assert card["kind"] == "portable"
    size = len(Catalogue.from_dataset(run.dataset()))
    assert 24 <= card["leaves"] < 72
    assert size / card["leaves"] <= card["leaf_size"] <= -(-size // 24)
    assert 1 <= card["leaves_to_search"] <= card["leaves"]
    assert card["recall"]["at"] == 100
    assert card["recall"]["value"] >= 0.99
    plain = json.loads((exact / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))["index"]
    assert (plain["kind"], plain["leaves"], plain["recall"]["value"]) == ("portable", None, 1.0)


def test_the_card_describes_the_index_of_texts_too(partitioned: Path, exact: Path) -> None:
    card = json.loads((partitioned / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))["text_index"]
    assert card["kind"] == "portable"
    assert 1 <= card["leaves_to_search"] <= card["leaves"]
    # Of 512 items' own texts, as `export.recall_target` asks.
    assert (card["recall"]["at"], card["recall"]["queries"]) == (100, 512)
    assert card["recall"]["value"] >= 0.99
    plain = json.loads((exact / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))["text_index"]
    assert (plain["kind"], plain["leaves"], plain["recall"]["value"]) == ("portable", None, 1.0)


def catalogue(size: int, *, topics: int, noise: float, unit: bool = True, seed: int = 0) -> Vectors:
    """Items around topics, float32 [size, 24]."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(topics, 24))[rng.integers(topics, size=size)] + noise * rng.normal(size=(size, 24))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths if unit else vectors * rng.lognormal(sigma=0.4, size=(size, 1)), np.float32)


def best(vectors: Vectors, queries: Vectors, count: int) -> npt.NDArray[np.int64]:
    return np.argsort(-(queries.astype(np.float64) @ vectors.T.astype(np.float64)), axis=1)[:, :count]


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 40])
def test_all_leaves_give_the_exact_answer_for_any_batch(unit: bool, batch: int) -> None:
    vectors = catalogue(500, topics=12, noise=0.5, unit=unit)
    queries = catalogue(batch, topics=12, noise=0.5, unit=unit, seed=1)
    index = PortableIndex(vectors, IndexSettings("portable", leaves=20, leaves_to_search=1), usual=20, seed=0)
    for count in (500, 260):
        scores, rows = index.search(tf.constant(queries), tf.constant(count))
        np.testing.assert_array_equal(rows.numpy(), best(vectors, queries, count))
        products = np.take_along_axis(queries @ vectors.T, rows.numpy(), axis=1)
        np.testing.assert_allclose(scores.numpy(), products, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [0, 1, 7, 64])
def test_single_and_batched_queries_search_the_same_leaves(batch: int) -> None:
    vectors = catalogue(900, topics=30, noise=0.4)
    queries = catalogue(batch, topics=30, noise=0.4, seed=2)
    index = PortableIndex(
        vectors, IndexSettings("portable", leaves=30, leaves_to_search=4, spread_weight=1.0), usual=25, seed=0
    )
    scores, rows = index.search(tf.constant(queries), tf.constant(25))
    assert rows.shape == (batch, 25)
    members, centres, spreads = (part.numpy() for part in (index._rows, tf.transpose(index._centres), index._spreads))
    promise = queries @ centres.T + np.linalg.norm(queries, axis=1, keepdims=True) * spreads
    for line in range(batch):
        # 25 results of 900 items in about 45 leaves: the leaves asked for are more than would hold twice as many.
        leaves = np.argsort(-promise[line])[:4]
        there = members[leaves][members[leaves] >= 0]
        expected = there[np.argsort(-(vectors[there] @ queries[line]))][:25]
        np.testing.assert_array_equal(rows.numpy()[line], expected)
        np.testing.assert_allclose(scores.numpy()[line], vectors[expected] @ queries[line], rtol=1e-4, atol=1e-5)


def test_where_leaves_hold_too_few_the_rest_is_empty() -> None:
    rng = np.random.default_rng(0)
    # One far and small cluster: its leaf is nearly all padding.
    vectors = np.concatenate([rng.normal(size=(96, 8)), 50 + rng.normal(size=(2, 8))]).astype(np.float32)
    index = PortableIndex(vectors, IndexSettings("portable", leaves=7, leaves_to_search=1), usual=3, seed=0)
    index.settings = IndexSettings("portable", leaves=index.settings.leaves, leaves_to_search=1)
    scores, rows = index.search(tf.ones([1, 8]), tf.constant(3))
    assert set(rows.numpy()[0]) == {-1, 96, 97}
    assert np.isneginf(scores.numpy()[0, 2])


def test_tuning_takes_the_fewest_leaves_that_reach_the_recall() -> None:
    vectors = catalogue(3000, topics=60, noise=0.8)
    queries = catalogue(100, topics=60, noise=0.8, seed=3)
    index = PortableIndex(vectors, IndexSettings("portable", leaves=100, leaves_to_search=1), usual=50, seed=0)
    exact = best(vectors, queries, 50)

    def measured() -> float:
        rows = index.search(tf.constant(queries), tf.constant(50))[1].numpy()
        return float(np.mean([len(set(one) & set(other)) / 50 for one, other in zip(rows, exact, strict=True)]))

    told = index.tune(tf.constant(queries), tf.constant(vectors), count=50, target=0.97)
    assert told == pytest.approx(measured(), abs=1e-6)
    assert told >= 0.97
    leaves = index.settings.leaves_to_search
    assert leaves is not None
    assert leaves < (index.settings.leaves or 0)
    index.settings = IndexSettings(
        "portable",
        leaves=index.settings.leaves,
        leaves_to_search=leaves - 1,
        spread_weight=index.settings.spread_weight,
    )
    assert measured() < 0.97
    assert index.tune(tf.constant(queries), tf.constant(vectors), count=50, target=1.0) == 1.0
    assert measured() == 1.0
    fixed = index.settings.leaves_to_search
    index.tune(tf.constant(queries), tf.constant(vectors), count=50, target=0.0)
    assert index.settings.leaves_to_search == fixed, "a number of leaves that was set is kept"


@pytest.mark.parametrize("unit", [True, False])
def test_each_item_stands_in_one_leaf_near_its_like(unit: bool) -> None:
    vectors = catalogue(2000, topics=40, noise=0.1, unit=unit)
    parts = partition(vectors, 40, seed=5)
    assert sorted(parts.rows[parts.rows >= 0].tolist()) == list(range(2000))
    assert parts.rows.shape[1] <= 50
    for leaf, rows in enumerate(parts.rows):
        own = vectors[rows[rows >= 0]].astype(np.float64)
        assert len(own)
        assert (rows[len(own) :] == -1).all()
        np.testing.assert_allclose(parts.centres[leaf], own.mean(axis=0), rtol=1e-4, atol=1e-5)
        spread = np.sqrt(((own - own.mean(axis=0)) ** 2).sum(axis=1).mean() / 24)
        np.testing.assert_allclose(parts.spreads[leaf], spread, rtol=1e-3, atol=1e-4)
    again, other = partition(vectors, 40, seed=5), partition(vectors, 40, seed=6)
    np.testing.assert_array_equal(parts.rows, again.rows)
    assert parts.rows.shape != other.rows.shape or (parts.rows != other.rows).any()
    if unit:
        # Within a leaf items are alike, far above the mean likeness of the catalogue.
        assert np.mean(np.sum(np.square(parts.centres), axis=1)) > 0.5 + np.square(vectors.mean(axis=0)).sum()


@pytest.mark.parametrize(
    "vectors",
    [np.zeros((50, 4), np.float32), np.ones((50, 4), np.float32), np.eye(50, dtype=np.float32)],
    ids=["zeros", "same", "orthogonal"],
)
@pytest.mark.parametrize("leaves", [1, 7, 50])
def test_catalogues_without_structure_are_partitioned_all_the_same(vectors: Vectors, leaves: int) -> None:
    parts = partition(vectors, leaves, seed=0)
    assert sorted(parts.rows[parts.rows >= 0].tolist()) == list(range(50))
    assert np.isfinite(parts.centres).all()
    assert np.isfinite(parts.spreads).all()


@pytest.mark.parametrize("leaves", [0, 51])
def test_a_number_of_leaves_that_cannot_be_is_refused(leaves: int) -> None:
    with pytest.raises(ValueError, match=f"leaves is {leaves}"):
        partition(np.ones((50, 4), np.float32), leaves, seed=0)


def test_portable_settings_follow_the_size() -> None:
    portable = ExportConfig(index="portable")
    assert choose_index(portable, 20_000) == IndexSettings("portable")
    assert choose_index(portable, 10).leaves is None
    large = choose_index(portable, 1_000_000)
    assert (large.kind, large.leaves, large.leaves_to_search) == ("portable", 5000, 166)
    assert choose_index(ExportConfig(index="portable", leaves=7, leaves_to_search=9), 1_000).leaves_to_search == 7
    assert choose_index(ExportConfig(index="portable", leaves=700), 50).leaves == 50


def test_a_catalogue_without_structure_is_searched_exactly() -> None:
    rng = np.random.default_rng(0)
    config = Config.model_validate({"export": {"index": "portable"}})
    scattered = rng.normal(size=(20_500, 24)).astype(np.float32)
    index, card = make_index(config, tf.Variable(scattered), tf.constant(rng.normal(size=(16, 24)), tf.float32))
    assert isinstance(index, BruteForceIndex)
    assert (card["kind"], card["leaves"], card["recall"]["value"]) == ("portable", None, 1.0)
    grouped = catalogue(20_500, topics=300, noise=0.3)
    index, card = make_index(config, tf.Variable(grouped), tf.constant(catalogue(16, topics=300, noise=0.3, seed=0)))
    assert isinstance(index, PortableIndex)
    assert card["leaves_to_search"] < card["leaves"] / 12
    assert card["recall"]["value"] >= config.export.recall_target


def text_search(vectors: Vectors) -> TextSearch:
    """By the vectors alone."""
    size, width = vectors.shape
    features = SearchFeatures(
        text=vectors,
        labels=np.zeros((0, width), np.float32),
        categories=np.full((size, 1), -1, np.int32),
        popularity=np.zeros(size, np.float32),
        lexical=LexicalIndex(["item"] * size),
        means=LanguageMeans([], np.zeros((1, width), np.float32)),
        common=np.zeros(width, np.float32),
        spread=(0.0, 1.0),
    )
    weights = SearchWeights(categories=0.0, lexical=0.0, popularity=0.0, towers=0.0)
    return TextSearch(features, weights, width, tf.zeros([size, 1]))


def test_texts_are_searched_exactly_where_an_index_is_no_faster() -> None:
    def made(vectors: Vectors, **settings: object) -> tuple[type, object, dict[str, object]]:
        config = Config.model_validate({"export": {"index": "portable", **settings}})
        retrieval, card = make_text_retrieval(config, text_search(vectors))
        return type(retrieval), card["leaves"], card["recall"]

    scattered = np.random.default_rng(0).normal(size=(20_500, 24)).astype(np.float32)
    assert made(scattered) == (ExactTextRetrieval, None, {"at": 100, "value": 1.0, "queries": 512})
    assert made(scattered[:300]) == (ExactTextRetrieval, None, {"at": 100, "value": 1.0, "queries": 300})
    kind, leaves, _ = made(catalogue(20_500, topics=300, noise=0.3))
    assert kind is IndexedTextRetrieval
    assert leaves
    # A number of leaves that is asked for is kept.
    assert made(scattered[:3_000], leaves=10)[0] is IndexedTextRetrieval
