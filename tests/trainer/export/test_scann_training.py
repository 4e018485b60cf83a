"""ScaNN's partitions and codebooks: items are placed as ScaNN places them, and a later catalogue in old partitions."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from trainer.config.settings import Config
from trainer.export.build import make_index
from trainer.export.index import IndexSettings, ScannIndex
from trainer.export.previous import PreviousIndex

_ITEMS, _WIDTH, _COUNT = 3_000, 16, 100
_Floats = npt.NDArray[np.float32]


def _vectors(count: int, seed: int, centres: int = 3, width: int = _WIDTH) -> _Floats:
    """Unit vectors around a hundred topics, which depend on ``centres``."""
    topics = np.random.default_rng(centres).normal(size=(100, width))
    rng = np.random.default_rng(seed)
    drawn = topics[rng.integers(100, size=count)] + 0.5 * rng.normal(size=(count, width))
    vectors: _Floats = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return vectors


def _config(**export: object) -> Config:
    return Config.model_validate({"export": {"index": "scann", "recall_target": 0.97, "candidates": 50} | export})


def _build(vectors: _Floats, config: Config, before: PreviousIndex | None = None) -> tuple[ScannIndex, PreviousIndex]:
    """An index, and what the next export has of it."""
    queries = tf.constant(_vectors(200, 9))
    index, record = make_index(config, tf.Variable(vectors), queries, before=before)
    assert isinstance(index, ScannIndex)
    assert record["leaves_to_search"] == index.settings.leaves_to_search
    return index, PreviousIndex(index.settings, index.training, record["distortion"])


@pytest.fixture(scope="module")
def before() -> PreviousIndex:
    return _build(_vectors(_ITEMS, 0), _config())[1]


def _recall(index: ScannIndex, vectors: _Floats) -> float:
    queries = _vectors(200, 10)
    _, found = index.search(tf.constant(queries), tf.constant(_COUNT))
    exact = np.argsort(-queries @ vectors.T, axis=1)[:, :_COUNT]
    shared = [len({*one} & {*other}) for one, other in zip(exact.tolist(), found.numpy().tolist(), strict=True)]
    return float(np.mean(shared)) / _COUNT


# The last block of an odd width has one dimension.
@pytest.mark.parametrize("width", [_WIDTH, _WIDTH + 1])
def test_items_are_placed_as_scann_places_them(width: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(4_000, width)).astype(np.float32)
    # Large partitions: where one has fewer than 50 items, ScaNN moves items to it while it learns.
    settings = IndexSettings("scann", leaves=8, leaves_to_search=4, dimensions_per_block=2, reorder=400)
    index = ScannIndex(tf.constant(vectors), settings, 50)
    state, placement = index._serialized_searcher, index.training.place(vectors)
    np.testing.assert_array_equal(placement.partitions, state.datapoint_to_token.numpy())
    np.testing.assert_array_equal(placement.codes, state.hashed_dataset.numpy())
    again = ScannIndex(tf.constant(vectors), settings, 50, index.training)
    assert again.distortion == index.distortion
    queries = tf.constant(_vectors(30, 2, width=width))
    answers = (each.search(queries, tf.constant(70)) for each in (again, index))
    for found, expected in zip(*answers, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_the_distortion_is_that_of_the_coded_items() -> None:
    vectors = _vectors(500, 1)
    settings = IndexSettings("scann", leaves=10, leaves_to_search=8, dimensions_per_block=2, reorder=400)
    index = ScannIndex(tf.constant(vectors), settings, 50)
    placement = index.training.place(vectors)
    total = 0.0
    for row, vector in enumerate(vectors):
        told = index.training.centres[placement.partitions[row]].copy()
        for block, book in enumerate(index.training.blocks):
            told[2 * block : 2 * block + 2] += book[placement.codes[row, block]]
        total += float(np.sum((vector - told) ** 2))
    assert index.distortion == pytest.approx(total / len(vectors), rel=1e-5)


def test_a_catalogue_with_few_changes_is_found_as_well_in_the_partitions_before(before: PreviousIndex) -> None:
    vectors = _vectors(_ITEMS, 0)
    vectors[::20] = _vectors(_ITEMS // 20, 5)
    # A lower target than the one that the index before was tuned to, so that chance decides nothing.
    index, again = _build(vectors, _config(recall_target=0.95), before)
    assert index.training is before.training
    assert again.settings == before.settings
    # What many re-indexes one after another are compared with.
    assert again.distortion == before.distortion
    learned, _ = _build(vectors, _config(leaves_to_search=before.settings.leaves_to_search))
    assert learned.training is not before.training
    assert _recall(index, vectors) == pytest.approx(_recall(learned, vectors), abs=0.02)


def test_partitions_are_learned_again_where_the_old_ones_do_not_serve(before: PreviousIndex) -> None:
    unchanged = _vectors(_ITEMS, 0)
    assert _build(unchanged, _config(), before)[0].training is before.training
    others = _vectors(_ITEMS, 0, centres=4)
    assert _build(others, _config(), before)[0].training is not before.training
    more = np.concatenate([unchanged, _vectors(_ITEMS // 4, 7)])
    assert _build(more, _config(), before)[0].training is not before.training
    too_few = replace(before, settings=replace(before.settings, leaves_to_search=1))
    assert _build(unchanged, _config(), too_few)[0].training is not before.training
    for setting in ({"dimensions_per_block": 4}, {"reorder": 500}, {"leaves": 54}):
        assert _build(unchanged, _config(**setting), before)[0].training is not before.training


def test_a_given_number_of_searched_leaves_is_kept(before: PreviousIndex) -> None:
    index, _ = _build(_vectors(_ITEMS, 0), _config(leaves_to_search=3), before)
    assert index.training is before.training
    assert index.settings.leaves_to_search == 3


def _tuned(target: float, reorder: int, *, fixed: bool = False) -> tuple[ScannIndex, float, _Floats]:
    vectors = _vectors(_ITEMS, 0)
    settings = IndexSettings("scann", leaves=50, leaves_to_search=5, dimensions_per_block=4, reorder=reorder)
    index = ScannIndex(tf.constant(vectors), settings, 50, fixed_reorder=fixed)
    queries = tf.constant(_vectors(200, 10))
    return index, index.tune(queries, tf.constant(vectors), count=_COUNT, target=target), vectors


def test_more_items_are_scored_exactly_where_leaves_alone_miss_the_target() -> None:
    index, reached, vectors = _tuned(0.95, _COUNT)
    assert reached >= 0.95
    assert _recall(index, vectors) == pytest.approx(reached, abs=1e-6)
    chosen = index.settings
    assert chosen.reorder is not None
    assert chosen.leaves_to_search is not None
    assert chosen.reorder > _COUNT
    # With the first number, not even all leaves are enough.
    index.settings = replace(chosen, reorder=_COUNT, leaves_to_search=50)
    assert _recall(index, vectors) < 0.95
    # A leaf less by a step of the search is not enough with the chosen one.
    index.settings = replace(chosen, leaves_to_search=int(chosen.leaves_to_search / 1.25) - 1)
    assert _recall(index, vectors) < 0.95


def test_a_given_number_of_items_scored_exactly_is_kept() -> None:
    index, reached, _ = _tuned(0.95, _COUNT, fixed=True)
    assert reached < 0.95
    assert (index.settings.reorder, index.settings.leaves_to_search) == (_COUNT, 50)


def test_a_target_that_is_missed_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    vectors = _vectors(_ITEMS, 0)
    config = _config(recall_target=1.0, reorder=60, dimensions_per_block=8)
    _, record = make_index(config, tf.Variable(vectors), tf.constant(_vectors(200, 9)))
    assert "with all leaves searched and 60 items scored exactly, below export.recall_target 1.00" in caplog.text
    assert record["recall"]["value"] < 1.0
