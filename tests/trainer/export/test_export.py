"""The exported SavedModel: signatures, parity, filters, fullness, defaults, failure."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the graph's operations)
from tensorflow.core.protobuf import saved_model_pb2

from serving import contract
from tests.trainer.tiny import GENRES, tiny_config, tiny_dataset
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import write_dataset
from trainer.data.ids import as_text
from trainer.data.query_features import user_profiles
from trainer.data.requests import Requests
from trainer.data.split import training_part
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary, index_of
from trainer.errors import BabelrecError
from trainer.export.export import export
from trainer.export.index import BruteForceIndex, ScannIndex, choose_index, recall_of_exact
from trainer.export.previous import previous_indexes
from trainer.export.settings import ExportConfig
from trainer.models.assembly import load_recommender
from trainer.models.ranker import CatalogueRanker
from trainer.runs import Run
from trainer.training.fit import fit

pytestmark = pytest.mark.usefixtures("cache")
Answer = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def version(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_run, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def scann_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("scann")
    dataset = tiny_dataset(folder / "dataset", items=600, users=120)
    config = tiny_config(
        dataset.path,
        training={"epochs": 1, "refit": False, "batch_size": 64},
        export={"index": "scann", "exact_limit": 40, "candidates": 20},
    )
    return fit(config, folder / "run")


@pytest.fixture(scope="module")
def scann_version(scann_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(scann_run, tmp_path_factory.mktemp("models") / "scann")


def asker(path: Path) -> Callable[..., Answer]:
    """Asks a loaded version; what is not said is absent."""
    loaded = tf.saved_model.load(str(path))

    def ask(signature: str = "recommend", **said: object) -> Answer:
        size = max((len(value) for value in said.values() if isinstance(value, list)), default=1)
        text = {name: tf.constant(said.get(name, [""] * size)) for name in ("user_id", "query", "language", "country")}
        inputs = text | {
            "history": tf.ragged.constant(said.get("history", [[]] * size), tf.string, ragged_rank=1).to_tensor(""),
            "timestamp": tf.constant(said.get("timestamp", [0] * size), tf.int64),
        }
        if signature == "rank":
            inputs["item_ids"] = tf.constant(said["item_ids"])
        else:
            lists = {
                name: tf.ragged.constant(said.get(name, [[]] * size), tf.string, ragged_rank=1).to_tensor("")
                for name in ("exclude", "languages", "categories")
            }
            inputs |= lists | {
                "k": tf.constant(said.get("k", [10] * size), tf.int32),
                "include_seen": tf.constant(said.get("include_seen", [False] * size)),
            }
        return {name: value.numpy() for name, value in loaded.signatures[signature](**inputs).items()}

    ask.loaded = loaded  # type: ignore[attr-defined]
    return ask


@pytest.fixture(scope="module")
def ask(version: Path) -> Callable[..., Answer]:
    return asker(version)


@pytest.fixture(scope="module")
def ask_scann(scann_version: Path) -> Callable[..., Answer]:
    return asker(scann_version)


@pytest.fixture(scope="module")
def ask_portable(scann_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    run = Run.open(scann_run.path, ["export.index=portable", "export.leaves=24"])
    return asker(export(run, tmp_path_factory.mktemp("models") / "portable"))


@pytest.fixture(scope="module")
def catalogue(tiny_run: Run) -> Catalogue:
    return Catalogue.from_dataset(tiny_run.dataset())


def ids(answer: Answer, line: int = 0) -> list[str]:
    return [item.decode() for item in answer["item_ids"][line] if item]


def test_signatures_have_the_names_and_types_of_the_contract(version: Path) -> None:
    signatures = tf.saved_model.load(str(version)).signatures
    assert set(signatures) == {"serving_default", "recommend", "retrieve", "rank", "encode_text"}
    said = {
        name: (spec.dtype, spec.shape.as_list())
        for name, spec in signatures["recommend"].structured_input_signature[1].items()
    }
    one, many = [None], [None, None]
    assert said == {
        **dict.fromkeys(("user_id", "query", "language", "country"), (tf.string, one)),
        **dict.fromkeys(("history", "exclude", "languages", "categories"), (tf.string, many)),
        "timestamp": (tf.int64, one),
        "k": (tf.int32, one),
        "include_seen": (tf.bool, one),
    }
    assert set(signatures["recommend"].structured_outputs) == {
        "item_ids", "scores", "languages", "titles", "probability_like", "predicted_rating",
    }  # fmt: skip
    assert set(signatures["rank"].structured_outputs) == {"item_ids", "scores", "probability_like", "predicted_rating"}
    assert set(signatures["retrieve"].structured_outputs) == {"item_ids", "scores", "languages", "titles"}
    assert set(signatures["encode_text"].structured_outputs) == {"embeddings"}


def check_defaults(version: Path, columns: frozenset[str] = frozenset()) -> set[str]:
    """That every input which may be left out has the contract's default; ``columns`` are further ones of embed_items.

    Returns:
        The names of the signatures.
    """
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    definitions = {name: each for name, each in saved.meta_graphs[0].signature_def.items() if name[:2] != "__"}
    for name, definition in definitions.items():
        inputs = contract.SIGNATURES[name]
        optional = {key for key, each in inputs.items() if each.default is not None}
        optional |= columns if name == contract.EMBED_ITEMS else set()
        defaults = {key: tf.make_ndarray(value) for key, value in definition.defaults.items()}
        assert set(defaults) == optional, name
        for key in optional - columns:
            each = inputs[key]
            assert defaults[key].shape == (1,) + (0,) * (each.rank - 1)
            if each.rank == 1:
                said = each.default.encode() if isinstance(each.default, str) else each.default
                assert defaults[key].tolist() == [said]
    return set(definitions)


def test_every_input_that_may_be_left_out_has_its_default(version: Path) -> None:
    assert "recommend" in check_defaults(version)


def test_the_graph_answers_as_the_model_that_was_trained(
    tiny_run: Run, ask: Callable[..., Answer], catalogue: Catalogue
) -> None:
    model = load_recommender(tiny_run)
    vocabulary = Vocabulary.load(tiny_run.vocabulary)
    ranker = CatalogueRanker(model, model.items, tiny_run.read("blend.json"), candidates=20)
    users = vocabulary.users[:7]
    parts = training_part(tiny_run.dataset(), tiny_run.config)
    profiles = user_profiles(tiny_run.dataset())
    requests = Requests.of_users(users, parts.train, catalogue, vocabulary, profiles=profiles)
    assert set(requests.features["language"]) == {index_of(vocabulary.languages)[tag] for tag in ("ko", "en")}
    expected = ranker.rank(requests, 10)
    # The graph knows the users' own languages.
    answer = ask(
        user_id=users,
        history=[[catalogue.item_ids[row] for row in requests.histories.of_user(user)] for user in range(7)],
    )
    met = {user: set(as_text(parts.observed).filter(user_id=user)["item_id"]) for user in users}
    for line, user in enumerate(users):
        # The graph also leaves out what the user met without liking it; the ranker knows positives alone.
        wanted = [catalogue.item_ids[row] for row in expected[line] if catalogue.item_ids[row] not in met[user]]
        assert ids(answer, line)[: len(wanted)] == wanted


def test_probabilities_are_calibrated_as_the_run_found(
    tiny_run: Run, ask: Callable[..., Answer], catalogue: Catalogue
) -> None:
    model = load_recommender(tiny_run)
    ranker = CatalogueRanker(model, model.items, {"retrieval": 1.0}, candidates=20)
    history, asked = [0, 2, 4], np.array([6, 7, 8, 9])
    pairs = (np.zeros(4, np.int64), asked)
    _, raw = ranker.score_pairs(Requests.of_histories(UserItems.of_lists([history])), pairs)
    column = next(place for place, head in enumerate(model.heads) if head.name == "like")
    found = tiny_run.read("calibration.json")["like"]
    assert found["method"] != "none", "or the test would see nothing"
    scale = found[found["method"]]
    expected = 1.0 / (1.0 + np.exp(-(raw[:, column] / scale["temperature"] + scale["bias"])))
    names = [[catalogue.item_ids[row] for row in asked]]
    answer = ask("rank", history=[[catalogue.item_ids[row] for row in history]], item_ids=names)
    told = dict(zip(ids(answer), answer["probability_like"][0].tolist(), strict=True))
    assert [told[item] for item in names[0]] == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_fresh_process_answers_the_same(version: Path, ask: Callable[..., Answer]) -> None:
    code = f"""
import json, numpy as np, tensorflow as tf, tensorflow_text
f = tf.saved_model.load({str(version)!r}).signatures["recommend"]
e = tf.constant([[]], tf.string)
o = f(user_id=tf.constant(["u3"]), history=e, query=tf.constant(["우주선"]), language=tf.constant(["ko"]),
      country=tf.constant([""]), timestamp=tf.constant([0], tf.int64), k=tf.constant([9]), exclude=e, languages=e,
      categories=e, include_seen=tf.constant([False]))
print(json.dumps([[x.decode() for x in o["item_ids"].numpy()[0]], o["scores"].numpy()[0].tolist()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, scores = json.loads(done.stdout.splitlines()[-1])
    here = ask(user_id=["u3"], query=["우주선"], language=["ko"], k=[9])
    assert names == ids(here)
    np.testing.assert_allclose(scores, here["scores"][0], rtol=1e-5)


def test_a_known_user_needs_no_history_and_sees_nothing_twice(
    tiny_run: Run, ask: Callable[..., Answer], catalogue: Catalogue
) -> None:
    parts = training_part(tiny_run.dataset(), tiny_run.config)
    mine = parts.train.filter(user_id="u5").sort("timestamp")["item_id"].to_list()
    met = set(as_text(parts.observed).filter(user_id="u5")["item_id"])
    told = ask(user_id=["u5"], history=[mine], k=[20])
    remembered = ask(user_id=["u5"], k=[20])
    assert ids(told) == ids(remembered)
    assert not met & set(ids(remembered))
    everything = ask(user_id=["u5"], k=[61], include_seen=[True])
    assert set(mine) <= set(ids(everything))
    assert len(ids(everything)) == 61


def test_each_request_gets_its_own_k_and_padding(ask: Callable[..., Answer]) -> None:
    answer = ask(user_id=["u1", "u2", ""], query=["", "", "연애"], k=[3, 12, 1])
    assert answer["item_ids"].shape == (3, 12)
    assert [len(ids(answer, line)) for line in range(3)] == [3, 12, 1]
    assert (answer["scores"][0, 3:] == np.finfo(np.float32).min).all()
    assert (np.diff(answer["scores"][1]) <= 0).all()
    alone = ask(user_id=["u1"], k=[3])
    assert ids(alone) == ids(answer, 0)


@pytest.mark.parametrize("asked", ["ask", "ask_scann", "ask_portable"])
def test_filters_give_the_exact_answer(
    request: pytest.FixtureRequest, asked: str, tiny_run: Run, scann_run: Run
) -> None:
    ask = request.getfixturevalue(asked)
    run = tiny_run if asked == "ask" else scann_run
    items = Catalogue.from_dataset(run.dataset())
    full = ask("retrieve", query=["space 우주"], k=[len(items)], include_seen=[True])
    order = ids(full)
    for languages, categories in (
        ([], ["Old"]),
        (["ko"], []),
        (["KO", "th"], ["sci-fi"]),
        (["en"], ["Romance", "Old"]),
    ):
        allowed = [
            item
            for item in order
            if (not languages or items.languages[items.item_ids.index(item)] in {each.lower() for each in languages})
            and (
                not categories
                or {each.lower() for each in categories}
                & {label.lower() for label in items.labels(items.item_ids.index(item))}
            )
        ]
        got = ask("retrieve", query=["space 우주"], languages=[languages], categories=[categories], k=[15])
        assert ids(got) == allowed[:15]
    assert ids(ask(query=["x"], languages=[["xx"]])) == []
    assert ids(ask(query=["x"], categories=[["nothing"]])) == []


@pytest.mark.parametrize("asked", ["ask", "ask_scann", "ask_portable"])
def test_a_result_is_full_whenever_enough_items_are_allowed(
    request: pytest.FixtureRequest, asked: str, tiny_run: Run, scann_run: Run
) -> None:
    ask = request.getfixturevalue(asked)
    items = Catalogue.from_dataset((tiny_run if asked == "ask" else scann_run).dataset())
    best = ids(ask("retrieve", query=["space"], k=[len(items)]))
    assert sorted(best) == sorted(items.item_ids), "every item, each once"
    barred = best[: len(items) - 12]
    for signature in ("retrieve", "recommend"):
        left = ids(ask(signature, query=["space"], exclude=[barred], k=[10]))
        assert len(left) == 10
        assert not set(left) & set(barred)
        for categories in ([GENRES[0]], [GENRES[1]]):
            kept = [item for item in best if categories[0] in items.labels(items.item_ids.index(item))]
            got = ids(ask(signature, query=["space"], categories=[categories], exclude=[kept[5:]], k=[10]))
            assert set(got) == set(kept[:5])


def test_a_request_that_says_nothing_gets_what_its_language_likes(tiny_run: Run, ask: Callable[..., Answer]) -> None:
    train = training_part(tiny_run.dataset(), tiny_run.config).train
    profiles = tiny_run.dataset().users()
    assert profiles is not None
    speakers = {row["user_id"] for row in profiles.collect().iter_rows(named=True) if "ko" in row["languages"]}
    overall: dict[str, float] = {}
    korean: dict[str, float] = {}
    for user, item in train.select("user_id", "item_id").iter_rows():
        overall[item] = overall.get(item, 0) + 1
        if user in speakers:
            korean[item] = korean.get(item, 0) + 1
    total, own = sum(overall.values()), sum(korean.values())
    share = {item: (korean.get(item, 0) + 50 * count / total) / (own + 50) for item, count in overall.items()}
    answer = ask(language=["", "ko", "xx"], country=["", "KR", ""], k=[10, 10, 10])
    for line, expected in ((0, {item: count / total for item, count in overall.items()}), (1, share)):
        np.testing.assert_allclose(answer["scores"][line], sorted(expected.values(), reverse=True)[:10], rtol=1e-5)
        np.testing.assert_allclose(answer["scores"][line], [expected[item] for item in ids(answer, line)], rtol=1e-5)
    assert ids(answer, 0) == ids(answer, 2)
    korean_items = ids(ask(language=["ko"], languages=[["ko"]], k=[5]))
    assert korean_items == sorted(korean_items, key=lambda item: -share[item])


def test_rank_keeps_the_order_and_agrees_with_recommend(ask: Callable[..., Answer]) -> None:
    best = ask(user_id=["u4"], query=["사랑"], k=[6])
    shuffled = [*ids(best)[::-1], "no-such-item", ""]
    ranked = ask("rank", user_id=["u4"], query=["사랑"], item_ids=[shuffled])
    assert [item.decode() for item in ranked["item_ids"][0]] == shuffled
    for name in ("scores", "probability_like", "predicted_rating"):
        np.testing.assert_allclose(ranked[name][0][:6][::-1], best[name][0], rtol=1e-4, atol=1e-5)
    assert (ranked["scores"][0][6:] == np.finfo(np.float32).min).all()


def test_text_of_every_kind_is_answered(ask: Callable[..., Answer]) -> None:
    texts = ["太空飞船", "سفينة فضاء", "ยานอวกาศ", "우주선", "🚀", "   ", "a" * 20_000, "\u0000", "space"]
    answer = ask(query=texts)
    assert all(len(ids(answer, line)) == 10 for line in range(len(texts)))
    assert ids(answer, 5) == ids(ask(), 0), "blanks are no query"
    vectors = ask.loaded.signatures["encode_text"](text=tf.constant([*texts, ""]))["embeddings"].numpy()  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-3)


def test_an_empty_batch_is_answered_by_an_empty_batch(ask: Callable[..., Answer]) -> None:
    loaded = ask.loaded.signatures["recommend"]  # type: ignore[attr-defined]
    specs = loaded.structured_input_signature[1]
    empty = {
        name: tf.zeros([0] * spec.shape.rank, spec.dtype)
        if spec.dtype != tf.string
        else tf.constant([], tf.string, shape=[0] * spec.shape.rank)
        for name, spec in specs.items()
    }
    assert loaded(**empty)["item_ids"].shape[0] == 0


def test_a_locale_falls_back_on_its_language(ask: Callable[..., Answer]) -> None:
    plain = ask(user_id=["u4"], language=["ko"])
    for tag in ("KO", "ko-KR", "ko-Kore-KR"):
        np.testing.assert_array_equal(ask(user_id=["u4"], language=[tag])["scores"], plain["scores"])
    # The user's own language is English.
    unsaid = ask(user_id=["u4"])
    assert not np.array_equal(unsaid["scores"], plain["scores"]), "the audience's language was learned from"
    np.testing.assert_array_equal(ask(user_id=["u4"], language=["en"])["scores"], unsaid["scores"])
    # Thai is a language of items alone: nothing was learned of Thai requests, so it must not disturb.
    nobody = {"history": [["i1", "i3"]]}
    assert not np.array_equal(ask(**nobody, language=["ko"])["scores"], ask(**nobody)["scores"])
    np.testing.assert_array_equal(ask(**nobody, language=["th"])["scores"], ask(**nobody)["scores"])
    np.testing.assert_array_equal(ask(language=["ko-KR"])["scores"], ask(language=["ko"])["scores"])


@pytest.mark.parametrize("name", ["history", "query", "language", "timestamp", "k", "exclude", "include_seen"])
def test_an_input_of_another_batch_size_is_named(ask: Callable[..., Answer], name: str) -> None:
    loaded = ask.loaded.signatures["recommend"]  # type: ignore[attr-defined]
    inputs = {
        key: tf.constant([["x"]] * 3 if spec.shape.rank == 2 else ["x"] * 3)
        if spec.dtype == tf.string
        else tf.ones([3], spec.dtype)
        if spec.dtype != tf.bool
        else tf.constant([True] * 3)
        for key, spec in loaded.structured_input_signature[1].items()
    }
    loaded(**inputs)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"Input {name} must have as many rows"):
        loaded(**inputs | {name: inputs[name][:1]})


@pytest.mark.parametrize("k", [0, -3])
def test_a_k_below_one_is_refused(ask: Callable[..., Answer], k: int) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="k must be at least 1"):
        ask(user_id=["u1"], k=[k])


def test_scann_finds_what_exact_search_finds(scann_run: Run, scann_version: Path) -> None:
    card = json.loads((scann_version / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))
    assert card["index"]["kind"] == "scann"
    assert card["index"]["recall"]["at"] == 100
    assert card["index"]["recall"]["value"] >= 0.98
    text = (scann_version / "saved_model.pb").read_bytes()
    assert b"Scann>ScannSearchBatched" in text


def test_a_later_version_has_the_partitions_of_the_one_before(
    scann_run: Run, scann_version: Path, tmp_path: Path
) -> None:
    own = scann_run.dataset()
    gone = [f"i{number}" for number in range(0, 600, 100)]
    kept = ~pl.col("item_id").is_in(gone)
    items, met = own.items().filter(kept), own.interactions().filter(kept)
    later = write_dataset(
        tmp_path / "later",
        name="later",
        description="",
        licence="made by the tests",
        homepage="",
        interactions=met,
        items=items,
    )
    version = export(scann_run, scann_version.parent, later)
    assert (scann_version.name, version.name) == ("1", "2")
    old, new = (previous_indexes(each, scann_run.weights_digest()) for each in (scann_version, version))
    assert old.keys() == new.keys() == {"index", "text_index"}
    for name, index in old.items():
        assert index.training == new[name].training
        assert index.settings == new[name].settings
        assert index.distortion == new[name].distortion
    answer = asker(version)("recommend", query=["space ship"], k=[50], include_seen=[True])
    assert len(ids(answer)) == 50
    assert not {*ids(answer)} & {*gone}
    # Of another model there is nothing to keep.
    assert previous_indexes(scann_version, "0" * 64) == {}
    assert previous_indexes(tmp_path, scann_run.weights_digest()) == {}


def test_index_recall_is_measured_against_numpy() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(2000, 16)).astype(np.float32)
    queries = rng.normal(size=(40, 16)).astype(np.float32)
    settings = choose_index(ExportConfig(index="scann", leaves=40, leaves_to_search=4), 2000)
    index = ScannIndex(tf.constant(vectors), settings, 100)
    exact = np.argsort(-queries @ vectors.T, axis=1)[:, :100]
    _, found = index.search(tf.constant(queries), tf.constant(100))
    shared = [len(set(one) & set(other)) for one, other in zip(exact.tolist(), found.numpy().tolist(), strict=True)]
    measured = recall_of_exact(index, tf.constant(queries), tf.constant(vectors), 100)
    assert measured == pytest.approx(np.mean(shared) / 100, abs=1e-6)
    tuned = index.tune(tf.constant(queries), tf.constant(vectors), count=100, target=0.99)
    assert tuned >= 0.99 > measured
    brute = BruteForceIndex(tf.Variable(vectors))
    assert recall_of_exact(brute, tf.constant(queries), tf.constant(vectors), 100) == 1.0


def test_index_settings_follow_the_size() -> None:
    assert choose_index(ExportConfig(), 1_000).kind == "brute_force"
    large = choose_index(ExportConfig(), 1_000_000)
    assert (large.kind, large.leaves, large.leaves_to_search) == ("scann", 1000, 100)
    assert choose_index(ExportConfig(leaves=7, leaves_to_search=9, index="scann"), 1_000).leaves_to_search == 7
    with pytest.raises(BabelrecError, match="at least 256 items"):
        choose_index(ExportConfig(index="scann"), 100)


def test_versions_count_up_and_the_card_tells_what_is_inside(tiny_run: Run, version: Path) -> None:
    assert version.name == "1"
    second = export(tiny_run, version.parent)
    assert second.name == "2"
    assert {path.name for path in version.parent.iterdir()} == {".lock", "1", "2"}
    card = json.loads((second / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))
    assert card["data"]["fingerprint"] == tiny_run.dataset().fingerprint
    assert card["config"] == tiny_run.config.model_dump(mode="json")
    assert card["signatures"]["recommend"]["inputs"]["k"] == "int32 [None]"
    assert card["weights"] == tiny_run.weights_digest()
    for name in ("index", "text_index"):
        assert card[name]["kind"] == "brute_force"
        assert card[name]["recall"]["value"] == 1.0


def test_the_manifest_has_the_digest_of_each_file(version: Path) -> None:
    path = version / "assets.extra" / "manifest.json"
    assert json.loads(path.read_bytes())["files"] == {
        file.relative_to(version).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in version.rglob("*")
        if file.is_file() and file != path
    }


def test_warmup_requests_are_answered_by_the_graph(version: Path) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    loaded = tf.saved_model.load(str(version))
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    signatures = set()
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        signatures.add(request.model_spec.signature_name)
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        loaded.signatures[request.model_spec.signature_name](**inputs)
    assert signatures == {"serving_default", "recommend", "retrieve", "rank", "encode_text"}


def test_export_settings_can_change_after_training(tiny_run: Run, tmp_path: Path) -> None:
    run = Run.open(tiny_run.path, ["export.user_histories=false", "export.candidates=5"])
    changed = asker(export(run, tmp_path / "models"))
    assert len(ids(changed(user_id=["u5"], k=[12]))) == 12, "more than candidates, when more are asked for"
    # Without histories in the graph a known user is known by id alone, and nothing is hidden as seen.
    assert len(ids(changed(user_id=["u5"], k=[61]))) == 61


def test_an_unfinished_run_is_not_exported(tiny_run: Run, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tiny_run.config)
    run.record_data(tiny_run.dataset())
    with pytest.raises(BabelrecError):
        export(run, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_killed_export_leaves_no_version(tiny_run: Run, tmp_path: Path) -> None:
    models = tmp_path / "models"
    command = [
        sys.executable,
        "-m",
        "trainer.task",
        "export",
        "--run-dir",
        str(tiny_run.path),
        "--model-dir",
        str(models),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    import time

    deadline = time.monotonic() + 120
    while not list(models.glob(".*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert [path for path in models.iterdir() if not path.name.startswith(".")] == []
    assert export(tiny_run, models).name == "1"
