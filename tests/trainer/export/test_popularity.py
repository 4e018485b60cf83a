"""Popularity and neighbours in the served graph: it answers as the model does, exactly and by ScaNN."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.export.test_export import asker, ids
from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.data.catalogue import Catalogue
from trainer.data.split import split
from trainer.data.vocabulary import Vocabulary
from trainer.export.export import export
from trainer.models.assembly import load_recommender, make_item_table, make_recommender
from trainer.models.requests import CatalogueRanker
from trainer.runs import Run


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("index", ["brute_force", "scann"])
def test_the_graph_scores_with_popularity(tmp_path: Path, index: str) -> None:
    # ScaNN wants 256 items at least.
    data = tiny_dataset(tmp_path / "data", items=60 if index == "brute_force" else 300)
    config = tiny_config(
        data.path,
        model={"dimension": 8, "candidate": {"popularity": True, "neighbours": {"enabled": True}}},
        export={"index": index, "candidates": 301},
    )
    run = Run.create(tmp_path / "run", config)
    run.record_data(data)
    catalogue = Catalogue.from_dataset(data)
    parts = split(data, config.data)
    vocabulary = Vocabulary.from_training(data, catalogue, parts, config)
    vocabulary.save(run.vocabulary)
    items = make_item_table(catalogue, vocabulary, config.text)
    counts = np.bincount(catalogue.rows(parts.train["item_id"]), minlength=len(catalogue)).astype(np.float32)
    model = make_recommender(config, vocabulary, items, tf.constant(counts))
    popularity = model.query_tower.popularity
    assert popularity is not None
    # Popularity decides, so that a lost or doubled number shows in the order.
    popularity.factor.assign(5.0)
    run.write("blend.json", {"retrieval": 1.0})
    run.save_weights(model)
    history = [0, 4, 8]
    ranker = CatalogueRanker(load_recommender(run), items, {"retrieval": 1.0}, candidates=301)
    expected = ranker.rank(np.array([0, 3]), np.array(history, np.int32), 10)
    ask = asker(export(run, tmp_path / "models" / "tiny"))
    answer = ask(history=[[catalogue.item_ids[row] for row in history]], k=[10])
    assert ids(answer) == [catalogue.item_ids[row] for row in expected[0]]
