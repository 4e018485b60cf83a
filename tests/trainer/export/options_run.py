"""A run with every option of the retrieval score, untrained: the parts weigh so much that a lost one shows."""

from pathlib import Path

import numpy as np

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.split import split
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.models.assembly import make_item_table, make_recommender
from trainer.models.text_search import SEARCH_RECORD
from trainer.models.weights import save_weights
from trainer.runs import Run
from trainer.text.preprocessing import Steps

# ScaNN wants 256 items at least.
ITEMS = 300


def options_run(folder: Path, steps: Steps, data: Dataset | None = None, **sections: dict[str, object]) -> Run:
    """Popularity, neighbours, the linear model, content, text search and preprocessing, all in one model.

    Args:
        folder: Where to write.
        steps: Of ``text.preprocessing``.
        data: To train on; None: `ITEMS` items and one more.
        sections: Settings merged over these; with transitions, they weigh as much as retrieval.
    """
    data = data or tiny_dataset(folder / "data", items=ITEMS)
    base: dict[str, dict[str, object]] = {
        "text": {"preprocessing": dict(steps)},
        "model": {
            "dimension": 8,
            "candidate": {"popularity": True, "neighbours": {"enabled": True}},
            "linear": {"rank": 6},
            "content": {"enabled": True, "metric": "users", "metric_rank": 16},
            "query": {"history_length": 8, "time": True},
        },
        "export": {"index": "brute_force", "candidates": ITEMS + 1, "fresh_items": False},
    }
    merged = {name: base.get(name, {}) | sections.get(name, {}) for name in base.keys() | sections.keys()}
    config = tiny_config(data.path, **merged)
    run = Run.create(folder / "run", config)
    run.record_data(data)
    catalogue = Catalogue.from_dataset(data)
    parts = split(data, config.data)
    vocabulary = Vocabulary.from_training(data, catalogue, parts, config)
    vocabulary.save(run.vocabulary)
    items = make_item_table(config, catalogue, vocabulary)
    counts = np.bincount(catalogue.rows(parts.train["item_id"]), minlength=len(catalogue)).astype(np.float32)
    model = make_recommender(config, vocabulary, items, counts)
    users = sorted(set(parts.train["user_id"]))
    known = items.ids.numpy() - 1
    histories = UserItems.of(parts.train, catalogue, users).reindexed(known)
    popularity, linear, content = model.fusion.popularity, model.fusion.linear, model.fusion.content
    assert popularity is not None
    assert linear is not None
    assert content is not None
    content.fit(items.content.numpy(), UserItems.of(parts.train, catalogue, users), shrinkage=3.0)
    linear.fit(histories, items, regularization=300.0, new_items=1.0)
    blend = {"retrieval": 1.0}
    if model.transitions is not None:
        model.transitions.fit(histories)
        blend |= {"transitions": 4.0}
    draws = np.random.default_rng(3)
    for weight in model.query_tower.trainable_weights:
        # Languages and countries start without an effect.
        if not np.any(weight.numpy()):
            weight.assign(draws.normal(0.0, 0.5, weight.shape))
    popularity.factor.assign(5.0)
    linear.factor.assign(3.0)
    content.factor.assign(10.0)
    run.write("blend.json", blend)
    run.write(SEARCH_RECORD, {"categories": 1.0, "lexical": 0.4, "popularity": 0.05, "towers": 0.1})
    save_weights(run, model)
    return run
