"""Bounds on final scores."""

import numpy as np
import pytest
import tensorflow as tf

from serving.contract import LOWEST_SCORE
from trainer.data.catalogue import Catalogue
from trainer.models.assembly import item_table_of_run, load_recommender
from trainer.models.engine import Engine
from trainer.models.recommender import Recommender
from trainer.runs import Run

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def model(tiny_run: Run) -> Recommender:
    return load_recommender(tiny_run, item_table_of_run(tiny_run, Catalogue.from_dataset(tiny_run.dataset())))


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_retrieval_alone_says_what_exceeds_a_score(model: Recommender, weight: float) -> None:
    engine = Engine(model, {"retrieval": weight} | {head.name: 0.0 for head in model.heads})
    products = tf.constant([[0.7, 0.2, -0.4]])
    scores = engine.scores(engine.logits(products), tf.ones([1, 3, len(model.heads)]))
    for place in range(3):
        least = engine.least_found(scores[:, place], tf.constant([False])).numpy()
        np.testing.assert_allclose(least, products[:, place], rtol=1e-6)


@pytest.mark.parametrize("retrieval", [1.0, 0.0, -1.0])
def test_nothing_is_left_out_where_heads_decide(model: Recommender, retrieval: float) -> None:
    assert model.heads
    weights = {"retrieval": retrieval, model.heads[0].name: 0.5 if retrieval > 0.0 else 0.0}
    least = Engine(model, weights).least_found(tf.constant([3.0, -3.0]), tf.constant([False, False]))
    assert least.numpy().tolist() == [LOWEST_SCORE] * 2
