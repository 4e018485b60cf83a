"""Content similarity to the history against a loop, and its part for an unknown catalogue."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.models.assembly import item_table_of_run, load_recommender, make_item_table, make_recommender
from trainer.models.weights import save_weights
from trainer.runs import Run
from trainer.scorers.content import ContentSimilarity
from trainer.scorers.linear import stretch_of_unknown_items


@pytest.mark.parametrize("recency", [0.0, 0.5, 1.0, 3.0])
def test_newer_items_weigh_more_and_hidden_ones_nothing(recency: float) -> None:
    random = np.random.default_rng(0)
    items = random.normal(size=(3, 4, 5)).astype(np.float32)
    mask = np.array([[True, True, True, True], [True, False, True, False], [False] * 4])
    layer = ContentSimilarity(5, recency, name="content")
    np.testing.assert_array_equal(
        layer.queries(tf.zeros([3, 2]), items, mask), np.zeros((3, 5)), "without a factor it says nothing"
    )
    layer.factor.assign(3.0)
    expected = np.zeros((3, 5))
    for row in range(3):
        newer = 0
        for place in range(4):
            if mask[row, place]:
                expected[row] += items[row, place] / (1 + newer) ** recency
                newer += 1
        length = np.linalg.norm(expected[row])
        expected[row] *= 3.0 / length if length else 0.0
    np.testing.assert_allclose(layer.queries(tf.zeros([3, 2]), items, mask), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("cache")
def test_items_without_text_are_not_similar(tiny: Dataset) -> None:
    config = tiny_config(tiny.path, model={"content": {"enabled": True}})
    catalogue = Catalogue.from_dataset(tiny)
    texts = list(catalogue.texts)
    texts[0] = texts[3] = "  "
    blank = replace(catalogue, texts=texts)
    vocabulary = Vocabulary.from_training(tiny, catalogue, split(tiny, config.data), config)
    items = make_item_table(config, blank, vocabulary)
    lengths = np.linalg.norm(items.content.numpy()[:, :512], axis=1)
    np.testing.assert_allclose(lengths[[0, 3]], 0.0)
    np.testing.assert_allclose(np.delete(lengths, [0, 3]), 1.0, rtol=1e-4)


@pytest.mark.usefixtures("cache")
def test_a_run_scores_any_catalogue_by_its_content(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        tiny.path,
        model={
            "dimension": 8,
            "candidate": {"popularity": True, "neighbours": {"enabled": True}},
            "linear": {"rank": 4},
            "content": {"enabled": True, "category_weight": 0.5},
        },
    )
    run = Run.create(tmp_path / "run", config)
    run.record_data(tiny)
    catalogue = Catalogue.from_dataset(tiny)
    vocabulary = Vocabulary.from_training(tiny, catalogue, split(tiny, config.data), config)
    vocabulary.save(run.vocabulary)
    model = make_recommender(config, vocabulary, make_item_table(config, catalogue, vocabulary))
    linear = model.fusion.linear
    assert linear is not None
    linear.table.assign(np.random.default_rng(1).normal(size=linear.table.shape))
    linear.stretch.assign(7.0)
    save_weights(run, model)

    with monkeypatch.context() as patch:
        # At hand already: reading it again would take its time and memory twice.
        patch.setattr(Run, "dataset", lambda self: pytest.fail("the run's own catalogue is read again"))
        own, shown = item_table_of_run(run, catalogue), item_table_of_run(run, replace(catalogue), own=catalogue)
    np.testing.assert_array_equal(own.neighbours.items, shown.neighbours.items)
    np.testing.assert_allclose(own.neighbours.weights, shown.neighbours.weights, atol=1e-6)
    unknown = item_table_of_run(run, catalogue, known_ids=False)
    for found in (load_recommender(run), load_recommender(run, unknown)):
        vectors = found.candidate_vectors(found.items).numpy()
        content = vectors[:, 8 + 4 : -1]
        assert vectors.shape == (len(catalogue), found.fusion.width)
        assert content.shape[1] == 2 * 512
        np.testing.assert_allclose(np.linalg.norm(content[:, :512], axis=1), 1.0, rtol=1e-4)
        lengths = np.linalg.norm(content[:, 512:], axis=1)
        assert (np.isclose(lengths, 0.5, rtol=1e-4) | np.isclose(lengths, 0.0)).all()
        # The text's direction doesn't depend on training; the length of the linear scores does.
        np.testing.assert_allclose(content, model.candidate_vectors(model.items).numpy()[:, 12:-1], atol=1e-6)
    known, of_unknown = (load_recommender(run, items).fusion.linear for items in (None, unknown))
    assert known is not None
    assert of_unknown is not None
    assert float(known.stretch) == 7.0
    signs = linear.signs.numpy()
    table = linear.table.numpy()[1:]
    near, weights = unknown.neighbours
    expected = stretch_of_unknown_items(table, signs, np.einsum("nk,nkr->nr", weights, table[near]))
    assert expected != 1.0
    assert float(of_unknown.stretch) == pytest.approx(expected, rel=1e-4)
