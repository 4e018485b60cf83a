"""Builds the indexes of an export and measures their recall."""

import logging
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.config.settings import Config
from trainer.export.index import BruteForceIndex, Index, IndexSettings, ScannIndex, choose_index, recall_of_exact
from trainer.export.portable import PortableIndex
from trainer.export.previous import PreviousIndex
from trainer.export.text_search import ExactTextRetrieval, IndexedTextRetrieval, TextRetrieval
from trainer.models.text_search import TextSearch

_LOG = logging.getLogger(__name__)
_RECALL_AT = 100
# Number of items whose texts are used as queries to tune the text index.
_TEXT_QUERIES = 512
# Above this share of the leaves a partitioned search of a batch is no faster than exact search: at 7 % it takes 0.7 of
# exact search's processor time for one query, and 0.94 for 32 (benchmarks/speed/index.py).
_LARGEST_SHARE = 0.08
# Factor by which partitions and codes may describe a later catalogue worse than the one that they were learned from.
_MOST_DISTORTION = 1.05


def make_index(
    config: Config,
    vectors: tf.Variable,
    queries: tf.Tensor,
    *,
    name: str = "index",
    before: PreviousIndex | None = None,
) -> tuple[Index, dict[str, Any]]:
    """An index, and its description for the model card.

    A portable index that needs more than a twelfth of its leaves for the target recall is replaced by exact search,
    which is then no slower, unless ``export.leaves`` or ``export.leaves_to_search`` is set.

    Args:
        config: The run's settings; ``config.export`` selects the index.
        vectors: The catalogue, variable float32 [N, D].
        queries: Float32 [Q, D], similar to those in serving.
        name: Its name in log messages.
        before: An index of the same model over an earlier catalogue, whose partitions and number of searched leaves are
            used while they serve this one as well; None: they are learned and tuned.

    Raises:
        BabelrecError: the settings don't fit the catalogue.
    """
    settings = choose_index(config.export, int(vectors.shape[0]))
    count = min(_RECALL_AT, int(vectors.shape[0]))
    distortion: float | None = None
    index: Index
    if settings.kind == "brute_force" or settings.leaves is None:
        index = BruteForceIndex(vectors)
        recall = recall_of_exact(index, queries, vectors.value(), count)
    elif before is not None and (found := _as_before(config, settings, vectors, queries, before, name)) is not None:
        index, recall = found
        # Of the catalogue that the partitions were learned from: many small changes are one large one.
        settings, distortion = index.settings, before.distortion
        _LOG.info("The %s has the partitions of the version before.", name)
    else:
        approximate = _approximate(config, settings, vectors)
        target = _target(config)
        recall = approximate.tune(queries, vectors.value(), count=count, target=target)
        index, settings = approximate, approximate.settings
        distortion = approximate.distortion if isinstance(approximate, ScannIndex) else None
        if recall < target:
            _LOG.warning(
                "The %s reaches recall@%d %.4f with all leaves searched and %s items scored exactly, below "
                "export.recall_target %.2f; raise export.reorder or lower export.dimensions_per_block.",
                name,
                count,
                recall,
                f"{settings.reorder:,}" if settings.reorder else "all",
                target,
            )
        fixed = config.export.leaves is not None or config.export.leaves_to_search is not None
        share = (settings.leaves_to_search or 1) / (settings.leaves or 1)
        if settings.kind == "portable" and not fixed and share > _LARGEST_SHARE:
            _LOG.info(
                "The %s needs %d of %d leaves for recall@%d %.4f, which is no faster than exact search: "
                "exporting exact search.",
                name,
                settings.leaves_to_search,
                settings.leaves,
                count,
                recall,
            )
            index, settings = BruteForceIndex(vectors), IndexSettings("portable")
            recall = recall_of_exact(index, queries, vectors.value(), count)
    record = asdict(settings) | {"recall": {"at": count, "value": recall, "queries": int(queries.shape[0])}}
    return index, record if distortion is None else record | {"distortion": distortion}


def _target(config: Config) -> float:
    """Recall to reach; 0 if the number of searched leaves is given."""
    return 0.0 if config.export.leaves_to_search else config.export.recall_target


def _as_before(
    config: Config, settings: IndexSettings, vectors: tf.Variable, queries: tf.Tensor, before: PreviousIndex, name: str
) -> tuple[ScannIndex, float] | None:
    """An index with the partitions of the version before, and its recall; None if they don't serve this catalogue."""
    given = ((config.export.leaves, before.settings.leaves), (config.export.reorder, before.settings.reorder))
    if not before.suits(settings) or any(wanted not in (None, had) for wanted, had in given):
        _LOG.info("The %s learns new partitions: the version before has other settings, or another size.", name)
        return None
    searched = config.export.leaves_to_search or before.settings.leaves_to_search
    index = ScannIndex(
        vectors.value(),
        replace(before.settings, leaves_to_search=searched),
        config.export.candidates,
        before.training,
    )
    if index.distortion > _MOST_DISTORTION * before.distortion:
        worse = index.distortion / before.distortion
        _LOG.info("The %s learns new partitions: the old ones describe the items %.2f times worse.", name, worse)
        return None
    recall = recall_of_exact(index, queries, vectors.value(), min(_RECALL_AT, int(vectors.shape[0])))
    if recall < _target(config):
        _LOG.info("The %s learns new partitions: with the old ones its recall is %.4f.", name, recall)
        return None
    return index, recall


def make_text_retrieval(
    config: Config, search: TextSearch, before: PreviousIndex | None = None
) -> tuple[TextRetrieval, dict[str, Any]]:
    """Retrieval for text queries, by an index or exact as `make_index` decides, and its description.

    Args:
        config: The run's settings.
        search: Scores of the catalogue.
        before: As for `make_index`.
    """
    vectors = tf.Variable(search.index_vectors(), trainable=False, name="text_vectors")
    # Texts with the noise of a translation would be closer to what people type, but the items' own are at hand.
    sample = np.random.default_rng(config.seed).permutation(search.size)[:_TEXT_QUERIES]
    queries = tf.concat([tf.gather(search.vectors, sample), tf.ones([len(sample), 1])], axis=1)
    index, record = make_index(config, vectors, queries, name="index of texts", before=before)
    if isinstance(index, BruteForceIndex):
        return ExactTextRetrieval(search), record
    return IndexedTextRetrieval(search, index, config.export.exact_limit, least=config.export.candidates), record


def _approximate(config: Config, settings: IndexSettings, vectors: tf.Variable) -> ScannIndex | PortableIndex:
    if settings.kind == "portable":
        return PortableIndex(vectors.numpy(), settings, config.export.candidates, seed=config.seed)
    fixed = config.export.reorder is not None
    return ScannIndex(vectors.value(), settings, config.export.candidates, fixed_reorder=fixed)
