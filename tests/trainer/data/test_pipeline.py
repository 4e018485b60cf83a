"""Training batches against histories worked out in plain Python."""

from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.heads import choose_heads
from trainer.data.pipeline import TrainingData
from trainer.data.shares import Share
from trainer.data.split import Split, split
from trainer.data.vocabulary import Vocabulary


def _data(
    dataset: Dataset, config: Config, parts: Split | None = None
) -> tuple[TrainingData, Catalogue, Vocabulary, Split]:
    parts = parts or split(dataset, config.data)
    catalogue = Catalogue.from_dataset(dataset)
    vocabulary = Vocabulary.from_training(dataset, catalogue, parts, config)
    heads = choose_heads(vocabulary.events, config.data.positives)
    return TrainingData(dataset, catalogue, vocabulary, parts, heads, config), catalogue, vocabulary, parts


def _ordered(train: pl.DataFrame) -> dict[str, list[str]]:
    """Each user's positives, oldest first."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for user, item, moment in train.select("user_id", "item_id", "timestamp").iter_rows():
        found[user].append((moment, item))
    return {user: [item for _, item in sorted(events)] for user, events in found.items()}


@pytest.mark.parametrize("mode", ["causal", "leave_one_out"])
def test_histories_hold_what_they_should(tiny: Dataset, mode: str) -> None:
    config = tiny_config(
        tiny.path,
        training={"batch_size": 64, "history": mode},
        model={"query": {"history_length": 12}, "text_queries": 0.0},
    )
    data, catalogue, vocabulary, parts = _data(tiny, config)
    events = _ordered(parts.train)
    for batch in data.batches(start=0, stop=data.steps_per_epoch):
        rows = batch["positives"]
        for user, item, history in zip(
            rows["user"].numpy(), rows["item"].numpy(), rows["history"].numpy(), strict=True
        ):
            mine = events[vocabulary.users[user - 1]]
            place = mine.index(catalogue.item_ids[item])
            expected = mine[:place] if mode == "causal" else mine[:place] + mine[place + 1 :]
            got = [catalogue.item_ids[row] for row in history if row >= 0]
            assert got == expected[::-1][:12]


def test_an_observed_event_sees_only_older_positives(tiny: Dataset) -> None:
    config = tiny_config(tiny.path, model={"query": {"history_length": 16}, "text_queries": 0.0})
    data, catalogue, vocabulary, parts = _data(tiny, config)
    moments = {
        (user, item): moment
        for user, item, moment in parts.observed.select("user_id", "item_id", "timestamp").iter_rows()
    }
    positives = _ordered(parts.train)
    low = 0
    for batch in data.batches(start=0, stop=10):
        rows = batch["observed"]
        for user, item, history, labels in zip(
            *(rows[name].numpy() for name in ("user", "item", "history", "labels")), strict=True
        ):
            name, item_id = vocabulary.users[user - 1], catalogue.item_ids[item]
            expected = [each for each in positives[name] if moments[name, each] < moments[name, item_id]]
            assert [catalogue.item_ids[row] for row in history if row >= 0] == expected[::-1]
            assert labels[0] == float(labels[1] >= 4)
            low += labels[1] < 4
    assert low > 0


def test_a_long_history_is_thinned_evenly_when_order_is_not_causal(tiny: Dataset) -> None:
    config = tiny_config(
        tiny.path,
        training={"batch_size": 64, "history": "leave_one_out"},
        model={"query": {"history_length": 3}, "text_queries": 0.0},
    )
    data, catalogue, vocabulary, parts = _data(tiny, config)
    events = _ordered(parts.train)
    seen: Counter[int] = Counter()
    for batch in data.batches(start=0, stop=60):
        rows = batch["positives"]
        for user, item, history in zip(
            rows["user"].numpy(), rows["item"].numpy(), rows["history"].numpy(), strict=True
        ):
            mine = events[vocabulary.users[user - 1]]
            others = [each for each in mine if each != catalogue.item_ids[item]]
            places = [others.index(catalogue.item_ids[row]) for row in history]
            assert places == sorted(set(places), reverse=True), "newest first, no item twice"
            seen.update(places)
    counts = np.array([seen[place] for place in range(len(others))])
    assert counts.min() > 0.6 * counts.mean()


def test_each_epoch_shows_each_positive_once(tiny: Dataset) -> None:
    config = tiny_config(tiny.path, training={"batch_size": 64}, model={"text_queries": 0.0})
    data, _catalogue, _vocabulary, parts = _data(tiny, config)
    total = len(data.positives)
    steps = -(-2 * total // 64)
    pairs = [
        (int(user), int(item))
        for batch in data.batches(start=0, stop=steps)
        for user, item in zip(batch["positives"]["user"].numpy(), batch["positives"]["item"].numpy(), strict=True)
    ]
    assert Counter(pairs[:total]) == Counter(pairs[total : 2 * total])
    assert len(set(pairs[:total])) == total == parts.train.height
    assert pairs[:total] != pairs[total : 2 * total], "another order in the second epoch"


def test_a_resumed_stream_equals_an_uninterrupted_one(tiny: Dataset) -> None:
    config = tiny_config(tiny.path, model={"text_queries": 0.5})
    data, *_ = _data(tiny, config)
    whole = list(data.batches(start=0, stop=9))[5:]
    late = list(data.batches(start=5, stop=9))
    for one, other in zip(whole, late, strict=True):
        tf.nest.map_structure(lambda a, b: np.testing.assert_array_equal(a, b), one, other)


@pytest.mark.parametrize("shares", [[Share(4, n, 1) for n in range(4)], [Share(4, 0, 2), Share(4, 2, 2)]])
def test_shares_are_the_whole_batch_in_order(tiny: Dataset, shares: list[Share]) -> None:
    config = tiny_config(tiny.path, model={"text_queries": 0.5})
    data, *_ = _data(tiny, config)
    pipelines = [iter(data.batches(start=3, stop=6, share=share)) for share in shares]
    for whole in data.batches(start=3, stop=6):
        parts = [next(pipeline) for share, pipeline in zip(shares, pipelines, strict=True) for _ in range(share.count)]
        for name in ("positives", "observed", "picked"):
            joined = tf.nest.map_structure(lambda *each: tf.concat(each, axis=0), *(part[name] for part in parts))
            tf.nest.map_structure(lambda a, b: np.testing.assert_array_equal(a, b), joined, whole[name])
        for part in parts:
            np.testing.assert_array_equal(part["items"], whole["positives"]["item"])
            np.testing.assert_array_equal(part["negatives"], whole["negatives"])
    assert all(next(pipeline, None) is None for pipeline in pipelines)


def test_negatives_are_drawn_evenly_from_the_training_part(tiny: Dataset) -> None:
    config = tiny_config(tiny.path, model={"retrieval": {"uniform_negatives": 40}, "ranking": {"negatives": 5}})
    data, *_ = _data(tiny, config)
    batches = list(data.batches(start=0, stop=60))
    drawn = np.bincount(np.concatenate([batch["negatives"] for batch in batches]), minlength=len(data.item_counts))
    assert set(np.flatnonzero(drawn)) == set(np.flatnonzero(data.item_counts))
    # 2,400 draws of 60 items: 40 each, give or take five standard deviations.
    assert np.abs(drawn[drawn > 0] - 2400 / np.count_nonzero(data.item_counts)).max() < 5 * np.sqrt(40)
    picked = np.stack([batch["picked"] for batch in batches])
    assert picked.shape[1:] == (len(batches[0]["items"]), 5)
    assert (picked.min(), picked.max()) == (0, len(batches[0]["items"]) + 40 - 1)


def test_text_queries_are_the_item_s_text_or_one_of_its_categories(tiny: Dataset) -> None:
    config = tiny_config(tiny.path, model={"text_queries": 0.5})
    data, catalogue, *_ = _data(tiny, config)
    kinds: Counter[str] = Counter()
    for batch in data.batches(start=0, stop=40):
        rows = batch["positives"]
        for text, item, user, history in zip(
            *(rows[name].numpy() for name in ("text", "item", "user", "history")), strict=True
        ):
            if text < 0:
                kinds["none"] += 1
                continue
            if text < len(catalogue):
                assert text == item
                kinds["title"] += 1
            else:
                assert catalogue.category_labels[text - len(catalogue)] in catalogue.labels(item)
                kinds["category"] += 1
            kinds["stranger"] += user == 0 and (history < 0).all()
        assert (batch["observed"]["text"].numpy() < 0).all()
    total = kinds["none"] + kinds["title"] + kinds["category"]
    assert 0.4 < kinds["none"] / total < 0.6
    assert 0.15 < kinds["title"] / total < 0.35
    assert kinds["stranger"] > 0.3 * (kinds["title"] + kinds["category"])


def test_nothing_is_learned_from_held_out_interactions(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Vocabulary, counts, scales and batches are the same when the held-out rows are gone."""
    config = tiny_config(tiny.path)
    data, catalogue, vocabulary, parts = _data(tiny, config)
    blind = Split(
        kind=parts.kind,
        train=parts.train,
        validation=parts.validation.clear(),
        test=parts.test.clear(),
        observed=parts.observed,
    )
    other, _, other_vocabulary, _ = _data(tiny, config, blind)
    assert vocabulary == other_vocabulary
    np.testing.assert_array_equal(data.item_counts, other.item_counts)
    held_out = pl.concat([parts.validation, parts.test])
    pairs = {(user, item) for user, item in held_out.select("user_id", "item_id").iter_rows()}
    for batch in data.batches(start=0, stop=data.steps_per_epoch):
        for kind in ("positives", "observed"):
            for user, item in zip(batch[kind]["user"].numpy(), batch[kind]["item"].numpy(), strict=True):
                assert user == 0 or (vocabulary.users[user - 1], catalogue.item_ids[item]) not in pairs
    expected = Counter(parts.train["item_id"])
    assert {catalogue.item_ids[row]: int(count) for row, count in enumerate(data.item_counts) if count} == dict(
        expected
    )


def test_an_item_of_the_held_out_part_alone_is_unknown(tiny: Dataset) -> None:
    config = tiny_config(tiny.path)
    parts = split(tiny, config.data)
    victim = parts.test["item_id"][0]
    without = [part.filter(pl.col("item_id") != victim) for part in (parts.train, parts.observed)]
    cut = Split(kind=parts.kind, train=without[0], validation=parts.validation, test=parts.test, observed=without[1])
    data, catalogue, vocabulary, _ = _data(tiny, config, cut)
    assert victim not in vocabulary.items
    assert data.item_counts[catalogue.item_ids.index(victim)] == 0
