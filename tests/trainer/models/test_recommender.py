"""The losses against NumPy, and the towers' handling of absent and unknown features."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.heads import Head, choose_heads, label_table
from trainer.data.item_table import ItemTable
from trainer.data.pipeline import Batch, TrainingData
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.models.assembly import load_recommender, make_item_table, make_recommender
from trainer.models.ranking import RankingModel, blend
from trainer.models.recommender import Recommender
from trainer.models.replicas import Replicas
from trainer.models.settings import RankingConfig
from trainer.runs import Run
from trainer.scorers.fusion import Fusion
from trainer.towers.layers import IdEmbedding

_NO_CHANCE = {"user_dropout": 0.0, "history_dropout": 0.0, "feature_dropout": 0.0, "history_length": 8}
_NO_CHANCE_ITEM = {"id_dropout": 0.0, "feature_dropout": 0.0, "text_noise": 0.0}


def _model(dataset: Dataset, retrieval: dict[str, object]) -> tuple[Recommender, TrainingData, ItemTable]:
    config = tiny_config(
        dataset.path,
        model={
            "dimension": 8,
            "query": _NO_CHANCE,
            "candidate": _NO_CHANCE_ITEM,
            "retrieval": {"uniform_negatives": 0} | retrieval,
            "ranking": {"loss_weight": 0.0},
        },
    )
    parts = split(dataset, config.data)
    catalogue = Catalogue.from_dataset(dataset)
    vocabulary = Vocabulary.from_training(dataset, catalogue, parts, config)
    heads = choose_heads(vocabulary.events, config.data.positives)
    data = TrainingData(dataset, catalogue, vocabulary, parts, heads, config)
    items = make_item_table(config, catalogue, vocabulary)
    tf.keras.utils.set_random_seed(1)
    return make_recommender(config, vocabulary, items, data.item_counts), data, items


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("log_q", [True, False])
def test_retrieval_loss_is_corrected_softmax_without_accidental_hits(tiny: Dataset, log_q: bool) -> None:
    model, data, items = _model(tiny, {"log_q_correction": log_q, "temperature": 0.5})
    batch = next(iter(data.batches(start=0, stop=1)))
    loss = float(model.compute_loss(batch))
    positives = batch["positives"]
    rows = positives["item"].numpy()
    assert len(set(rows)) < len(rows), "the batch must hold an item twice, or accidental hits are not tested"
    vectors = model.candidate_vectors(items)
    queries = model.query_vectors(positives, items, vectors).numpy()
    logits = queries @ vectors.numpy()[rows].T / 0.5
    if log_q:
        share = data.item_counts / data.item_counts.sum()
        logits -= np.log(len(rows) * share[rows])
    expected = []
    for place, row in enumerate(rows):
        own = [other for other in range(len(rows)) if other == place or rows[other] != row]
        line = logits[place, own].astype(np.float64)
        expected.append(np.log(np.exp(line - line.max()).sum()) + line.max() - logits[place, place])
    assert loss == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.usefixtures("cache")
def test_uniform_negatives_join_the_batch(tiny: Dataset) -> None:
    model, data, _ = _model(tiny, {"uniform_negatives": 200, "log_q_correction": False})
    without, fewer, _ = _model(tiny, {"uniform_negatives": 0, "log_q_correction": False})
    batch, plain = (next(iter(each.batches(start=0, stop=1))) for each in (data, fewer))
    assert float(model.compute_loss(batch)) > float(without.compute_loss(plain))


@pytest.mark.usefixtures("cache")
def test_full_softmax_is_over_every_item_of_the_training_part(tiny: Dataset) -> None:
    model, data, items = _model(tiny, {"softmax": "full", "temperature": 0.5})
    batch = next(iter(data.batches(start=0, stop=1)))
    positives = batch["positives"]
    vectors = model.candidate_vectors(items)
    logits = (model.query_vectors(positives, items, vectors).numpy() @ vectors.numpy().T / 0.5).astype(np.float64)
    trained = logits[:, data.item_counts > 0]
    assert trained.shape[1] < logits.shape[1], "some item must be outside the training part"
    own = np.take_along_axis(logits, positives["item"].numpy()[:, None], axis=1)[:, 0]
    expected = np.log(np.exp(trained).sum(axis=1)) - own
    assert float(model.compute_loss(batch)) == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.usefixtures("cache")
def test_a_step_knows_which_rows_of_the_id_tables_it_has_used(tiny: Dataset) -> None:
    model, data, _ = _model(tiny, {})
    batch = next(iter(data.batches(start=0, stop=1)))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    names = [layer.name for layer in model.submodules if isinstance(layer, IdEmbedding)]
    assert {"user", "item", "category", "language"} <= set(names)
    for name, gradient in zip(names, tape.gradient(loss, model.tables), strict=True):
        assert isinstance(gradient, tf.IndexedSlices), name


@pytest.mark.usefixtures("cache")
def test_hard_negatives_keep_the_highest_scored(tiny: Dataset) -> None:
    hard, data, _ = _model(tiny, {"hard_negatives": 3, "log_q_correction": False})
    every, *_ = _model(tiny, {"log_q_correction": False})
    batch = next(iter(data.batches(start=0, stop=1)))
    assert float(hard.compute_loss(batch)) < float(every.compute_loss(batch))


def test_ranking_loss_skips_unknown_labels_and_scales_ratings() -> None:
    heads = [Head("like", "rating", "binary", 4.0), Head("rating", "rating", "regression")]
    model = RankingModel(heads, tiny_config_ranking(), Fusion(4))
    model(tf.zeros([1, 4]), tf.zeros([1, 1, 4]))
    labels = np.array([[1, 5], [0, 1], [np.nan, np.nan]], np.float32)
    model.set_label_scale(labels)
    outputs = np.array([[0.3, 0.5], [-1.0, 0.0], [9.0, 9.0]], np.float32)
    # Mean 3, deviation 2: labels 5 and 1 are +1 and -1 deviations.
    like = np.mean([np.log1p(np.exp(-0.3)), np.log1p(np.exp(-1.0))])
    rating = np.mean([(0.5 - 1.0) ** 2, (0.0 + 1.0) ** 2])
    assert float(model.loss(tf.constant(outputs), tf.constant(labels), Replicas.here())) == pytest.approx(
        like + rating, rel=1e-5
    )
    named = model.predictions(tf.constant(outputs))
    np.testing.assert_allclose(named["predicted_rating"], [4.0, 3.0, 21.0], rtol=1e-5)
    np.testing.assert_allclose(named["probability_like"][0], 1 / (1 + np.exp(-0.3)), rtol=1e-5)


def tiny_config_ranking() -> RankingConfig:
    return RankingConfig(hidden=[8])


def test_blend_weighs_by_name() -> None:
    heads = [Head("click", "click", "binary"), Head("purchase", "purchase", "binary")]
    outputs = tf.constant([[[1.0, 10.0], [2.0, 20.0]]])
    score = blend(
        tf.constant([[0.5, 0.25]]), outputs, [head.name for head in heads], {"retrieval": 2.0, "purchase": 0.1}
    )
    np.testing.assert_allclose(score, [[2.0, 2.5]])


@pytest.mark.usefixtures("cache")
def test_every_mix_of_features_gives_finite_vectors(tiny_run: Run) -> None:
    model = load_recommender(tiny_run)
    vectors = model.candidate_vectors(model.items)
    assert vectors.shape == (61, 16)
    assert np.isfinite(vectors).all()
    for user in (0, 3):
        for history in ([-1] * 8, [2, 4, -1, -1, -1, -1, -1, -1]):
            for text in (-1, 5, 62):
                batch = Batch(
                    user=tf.constant([user]),
                    features={"language": tf.constant([0]), "country": tf.constant([0])},
                    history=tf.constant([history]),
                    item=tf.constant([0]),
                    timestamp=tf.constant([0], tf.int64),
                    text=tf.constant([text]),
                    labels=tf.zeros([1, 2]),
                )
                assert np.isfinite(model.query_vectors(batch, model.items, vectors)).all()


@pytest.mark.usefixtures("cache")
def test_an_item_without_interactions_is_placed_by_its_content(tiny_run: Run) -> None:
    model = load_recommender(tiny_run)
    catalogue = Catalogue.from_dataset(tiny_run.dataset())
    vectors = tf.math.l2_normalize(model.candidate_vectors(model.items), axis=1).numpy()
    tail = vectors[catalogue.item_ids.index("tail")]
    same = [row for row in range(61) if "Sci-Fi" in catalogue.labels(row) and catalogue.item_ids[row] != "tail"]
    other = [row for row in range(61) if "Romance" in catalogue.labels(row)]
    assert (vectors[same] @ tail).mean() > (vectors[other] @ tail).mean() + 0.1


def test_labels_of_several_events_of_one_pair() -> None:
    import polars as pl

    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "b", "b"],
            "item_id": ["x", "x", "y", "x", "z"],
            "timestamp": [1, 2, 3, 4, 5],
            "event": ["click", "purchase", "click", "impression", "rating"],
            "value": [None, None, None, None, 4.5],
        }
    )
    heads = choose_heads(
        ["click", "impression", "purchase", "rating"], {"click": None, "purchase": None, "rating": 4.0}
    )
    assert [head.output for head in heads] == [
        "probability_click",
        "probability_purchase",
        "probability_like",
        "predicted_rating",
    ]
    labels = label_table(events, heads)
    rows = {(row["user_id"], row["item_id"]): row for row in labels.iter_rows(named=True)}
    assert [rows["a", "x"][f"label_{head.name}"] for head in heads] == [1.0, 1.0, None, None]
    assert [rows["a", "y"][f"label_{head.name}"] for head in heads] == [1.0, 0.0, None, None]
    assert [rows["b", "x"][f"label_{head.name}"] for head in heads] == [0.0, 0.0, None, None]
    assert [rows["b", "z"][f"label_{head.name}"] for head in heads] == [0.0, 0.0, 1.0, 4.5]
    assert rows["a", "x"]["timestamp"] == 2
