"""What a model may have besides the two towers, in the served graph: it answers as the model in Python does.

Popularity, neighbours, the linear model, text search and preprocessing, all in one model.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from tests.trainer.export.options_run import ITEMS, options_run
from tests.trainer.export.test_export import Answer, asker, ids
from trainer.config.settings import dump_config
from trainer.data.catalogue import Catalogue
from trainer.data.query_features import user_profiles
from trainer.data.requests import Requests
from trainer.data.split import split
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.export.export import export
from trainer.models.assembly import (
    load_recommender,
    text_ranker,
    typed_vectors,
)
from trainer.models.ranker import CatalogueRanker
from trainer.models.recommender import Recommender
from trainer.models.text_search import SEARCH_RECORD
from trainer.runs import Run
from trainer.text.preprocessing import Steps, preprocess
from trainer.text.vectors import encode_texts

pytestmark = pytest.mark.usefixtures("cache")
_STEPS: Steps = {"*": ["nfkc", "casefold", "numbers"], "en": ["stop_words", "casefold", "stem"]}
_HISTORY = [0, 4, 8]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return options_run(tmp_path_factory.mktemp("options"), _STEPS)


@pytest.fixture(scope="module")
def model(run: Run) -> Recommender:
    return load_recommender(run)


@pytest.fixture(scope="module")
def ask(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    return asker(export(run, tmp_path_factory.mktemp("models") / "exact"))


@pytest.fixture(scope="module")
def ask_scann(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    # Every leaf is searched and every item scored exactly: how the catalogue falls into leaves depends on the machine.
    everything = ["export.leaves=10", "export.leaves_to_search=10", f"export.reorder={ITEMS}"]
    changed = Run.open(run.path, ["export.index=scann", *everything])
    return asker(export(changed, tmp_path_factory.mktemp("models") / "scann"))


@pytest.fixture(scope="module")
def ask_portable(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    changed = Run.open(run.path, ["export.index=portable"])
    return asker(export(changed, tmp_path_factory.mktemp("models") / "portable"))


def _ranker(model: Recommender) -> CatalogueRanker:
    return CatalogueRanker(model, model.items, {"retrieval": 1.0}, candidates=ITEMS + 1)


def _expected(model: Recommender) -> tuple[list[str], npt.NDArray[np.float32]]:
    """The ten best items of an unknown user with a history, and their scores."""
    requests = Requests.of_histories(UserItems.of_lists([_HISTORY]))
    rows, scores, _ = _ranker(model).parts(requests)
    items = model.items.catalogue.item_ids
    return [items[row] for row in rows[0, :10].numpy()], scores[0, :10].numpy()


@pytest.mark.parametrize("asked", ["ask", "ask_scann", "ask_portable"])
def test_the_graph_answers_as_the_evaluation_does(
    run: Run, model: Recommender, asked: str, request: pytest.FixtureRequest
) -> None:
    ask, dataset, vocabulary = request.getfixturevalue(asked), run.dataset(), Vocabulary.load(run.vocabulary)
    catalogue, parts = Catalogue.from_dataset(dataset), split(dataset, run.config.data)
    hold_out = HoldOut(
        catalogue,
        vocabulary,
        parts.train_and_validation,
        parts.test,
        candidates=ITEMS + 1,
        profiles=user_profiles(dataset),
    )
    requests = hold_out.requests
    assert requests.users.all()
    assert len(set(requests.features["language"])) == 2
    assert requests.timestamps.all()
    expected = hold_out.rankings(hold_out.ranker(model, model.items, run.read("blend.json")), 10)
    names = np.array(catalogue.item_ids)
    unranked = sorted(set(names) - set(names[hold_out.candidate_rows]))
    for start in range(0, len(requests), 20):
        block = slice(start, min(start + 20, len(requests)))
        histories = [names[requests.histories.of_user(user)].tolist() for user in range(*block.indices(len(requests)))]
        # Evaluation ranks items with a positive, and hides what the user liked before. Users' own languages are in the
        # graph.
        answer = ask(
            user_id=hold_out.user_ids[block],
            history=histories,
            timestamp=requests.timestamps[block].tolist(),
            exclude=[history + unranked for history in histories],
            include_seen=[True] * len(histories),
        )
        for line, rows in enumerate(expected[block]):
            assert ids(answer, line) == names[hold_out.candidate_rows[rows]].tolist()


@pytest.mark.parametrize("asked", ["ask", "ask_scann", "ask_portable"])
def test_the_graph_scores_a_history_as_the_model_does(
    request: pytest.FixtureRequest, asked: str, model: Recommender
) -> None:
    items, scores = _expected(model)
    history = [[model.items.catalogue.item_ids[row] for row in _HISTORY]]
    answer = request.getfixturevalue(asked)(history=history, k=[10])
    assert ids(answer) == items
    np.testing.assert_allclose(answer["scores"][0], scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("part", ["popularity", "linear", "content"])
def test_either_part_changes_what_is_answered(model: Recommender, part: str) -> None:
    _, scores = _expected(model)
    factor = getattr(model.fusion, part).factor
    before = factor.numpy()
    factor.assign(0.0)
    _, without = _expected(model)
    factor.assign(before)
    assert np.abs(scores - without).max() > 0.1


_TYPED = ["ＳＰＡＣＥ Ship 12", "태극기", "Romance", "رسالة حب", "spcae shpi 12", "🎉", "宇宙"]


def _answers(run: Run, texts: list[str]) -> list[list[str]]:
    """The ten best items for typed texts by the run's model, in memory."""
    sentences = encode_texts(preprocess(texts, ["und"] * len(texts), _STEPS), run.config.text, progress=False)
    dataset = run.dataset()
    catalogue = Catalogue.from_dataset(dataset)
    ranker = text_ranker(run, dataset, catalogue)
    np.testing.assert_allclose(typed_vectors(ranker.model, texts, run.config.text), sentences, atol=1e-5)
    rows = ranker.rank_texts(tf.constant(sentences), texts, 10)
    return [[catalogue.item_ids[row] for row in line] for line in rows]


@pytest.mark.parametrize("asked", ["ask", "ask_scann", "ask_portable"])
def test_the_graph_answers_typed_texts_as_the_model_does(request: pytest.FixtureRequest, asked: str, run: Run) -> None:
    ask = request.getfixturevalue(asked)
    expected = _answers(run, _TYPED)
    answer = ask(query=_TYPED, k=[10] * len(_TYPED))
    assert [ids(answer, line) for line in range(len(_TYPED))] == expected
    # Whoever else is in the batch, and whether anybody is.
    mixed = ask(query=["", _TYPED[0], ""], user_id=["", "", "somebody"], k=[10, 10, 10])
    assert ids(mixed, 1) == expected[0]
    assert ids(ask(query=[_TYPED[1]], k=[10])) == expected[1]


@pytest.mark.parametrize("asked", ["ask", "ask_scann"])
def test_filters_and_exclusions_hold_for_typed_texts(
    request: pytest.FixtureRequest, asked: str, model: Recommender
) -> None:
    ask, catalogue = request.getfixturevalue(asked), model.items.catalogue
    best = ids(ask(query=["Romance"], k=[10]))
    without = ids(ask(query=["Romance"], exclude=[best[:3]], k=[7]))
    assert without == best[3:]
    label = catalogue.category_labels[0]
    row_of = {item: row for row, item in enumerate(catalogue.item_ids)}
    inside = ids(ask(query=["Romance"], categories=[[label]], k=[5]))
    assert len(inside) == 5
    assert all(label in catalogue.labels(row_of[item]) for item in inside)
    korean = ids(ask(query=["Romance"], languages=[["ko"]], k=[5]))
    assert korean
    assert all(catalogue.languages[row_of[item]] == "ko" for item in korean)


@pytest.mark.parametrize("asked", ["ask", "ask_scann"])
def test_given_items_score_as_when_they_are_found(request: pytest.FixtureRequest, asked: str) -> None:
    ask = request.getfixturevalue(asked)
    found = ask(query=[_TYPED[0], ""], user_id=["", ""], k=[10, 10])
    given = [ids(found, 0), ids(found, 1)]
    ranked = ask("rank", query=[_TYPED[0], ""], item_ids=given)
    np.testing.assert_allclose(ranked["scores"], found["scores"], rtol=1e-4, atol=1e-4)


def test_without_text_search_the_towers_answer_typed_texts(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    changed = Run.open(run.path, ["model.search.enabled=false"])
    version = export(changed, tmp_path_factory.mktemp("models") / "towers")
    card = json.loads((version / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))
    assert card["text_index"] is None
    assert card["index"]["kind"] == "brute_force"
    ask = asker(version)
    expected = _answers(changed, _TYPED)
    assert expected != _answers(run, _TYPED)
    answer = ask(query=_TYPED, k=[10] * len(_TYPED))
    assert [ids(answer, line) for line in range(len(_TYPED))] == expected
    ranked = ask("rank", query=[_TYPED[0]], item_ids=[expected[0]])
    np.testing.assert_allclose(ranked["scores"][0], answer["scores"][0], rtol=1e-4, atol=1e-4)


def test_a_run_without_weights_of_text_search_is_exported_with_the_first_of_each_choice(
    run: Run, tmp_path: Path
) -> None:
    older = tmp_path / "run"
    shutil.copytree(run.path, older, ignore=shutil.ignore_patterns(SEARCH_RECORD))
    lists = {"category_weights": [0.5, 9.0], "lexical_weights": [0.2, 9.0], "popularity_weights": [0.3, 9.0]}
    changed = Run.open(older, [f"model.search.{name}={values}" for name, values in lists.items()])
    answer = asker(export(changed, tmp_path / "models"))(query=_TYPED, k=[10] * len(_TYPED))
    found = [ids(answer, line) for line in range(len(_TYPED))]
    changed.write(SEARCH_RECORD, {"categories": 0.5, "lexical": 0.2, "popularity": 0.3, "towers": 0.1})
    assert found == _answers(changed, _TYPED)
    assert found != _answers(run, _TYPED)


def test_towers_re_order_what_fits_and_bring_nothing_in(run: Run, ask: Callable[..., Answer]) -> None:
    weight = json.loads((run.path / SEARCH_RECORD).read_text())["towers"]
    history = [[ids(ask(k=[3]))[0]]]
    alone, known = ask(query=["Space Ship 12"], k=[60]), ask(query=["Space Ship 12"], history=history, k=[60])
    first, second = (dict(zip(ids(answer), answer["scores"][0], strict=False)) for answer in (alone, known))
    assert ids(alone) != ids(known)
    assert max(abs(first[item] - second[item]) for item in first.keys() & second.keys()) <= 2 * weight + 1e-5


def test_the_graph_prepares_what_is_typed(run: Run, ask: Callable[..., Answer]) -> None:
    assert "stop_words" in dump_config(run.config)
    typed = ["ＳＰＡＣＥ Ship 12", "太空飛船 99", "سفينة فضاء ٣", "ยานอวกาศ", "우주선 🚀", ""]
    # No language is said, so that the steps of `*` count.
    by_hand = preprocess(typed, ["und"] * len(typed), {"*": ["nfkc", "casefold", "numbers"]})
    assert by_hand[:2] == ["space ship 0", "太空飛船 0"]
    expected = encode_texts(by_hand, run.config.text, progress=False)
    encode = ask.loaded.signatures["encode_text"]  # type: ignore[attr-defined]
    np.testing.assert_allclose(encode(text=tf.constant(typed))["embeddings"], expected, atol=1e-5)
    unprepared = encode_texts(typed, run.config.text, progress=False)
    assert np.abs(unprepared[:3] - expected[:3]).max(axis=1).min() > 1e-3


def test_the_language_of_a_request_chooses_the_steps(ask: Callable[..., Answer], model: Recommender) -> None:
    items = [model.items.catalogue.item_ids[:20]]

    def predictions(query: str, language: str) -> npt.NDArray[np.float32]:
        # Heads see the query's vector alone; shared letters count as they are typed.
        answer = ask("rank", query=[query], language=[language], item_ids=items)
        return np.stack([answer[head.output][0] for head in model.heads])

    np.testing.assert_allclose(
        predictions("The SPACE of a ship", "en-US"), predictions("space ship", "en-US"), rtol=1e-4
    )
    assert np.abs(predictions("The SPACE of a ship", "fr") - predictions("space ship", "fr")).max() > 1e-4
