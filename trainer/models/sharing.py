"""Weights that have the same meaning in two models."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.item_table import ItemTable
from trainer.data.neighbours import Neighbours
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.errors import BabelrecError
from trainer.models.ranking import RankingModel
from trainer.text.conversion import LanguageConversion
from trainer.towers.layers import IdEmbedding
from trainer.towers.neighbours import NeighbourIds

_Layer = TypeVar("_Layer")


@dataclass(frozen=True, eq=False)
class Shared:
    """Pairs of corresponding weights of two models.

    Attributes:
        names: Path of each in its model, such as ``candidate_tower/_text/kernel``.
        source: Weights of the first model.
        target: Weights of the second, of the same shapes.
    """

    names: list[str]
    source: list[tf.Variable]
    target: list[tf.Variable]

    def copy(self) -> int:
        """Copies the source's values to the target; returns the number of weights copied."""
        for given, taken in zip(self.source, self.target, strict=True):
            taken.assign(given)
        return len(self.names)


def shared_weights(source: tf.keras.Model, target: tf.keras.Model) -> Shared:
    """Trainable weights with the same path and shape in both models, except those specific to one market.

    In two vocabularies, equal indices mean different users, items, languages and categories; likewise the outputs of
    different ranking heads. The factor that scales the means of neighbours depends on the vectors averaged. Layers over
    numbers and embedding columns are shared by position: columns of two markets are assumed to have the same meaning.
    Weights are identified by attribute path instead of name: Keras numbers the names of unnamed layers throughout a
    process, so the same layer has different names in two models.

    Raises:
        BabelrecError: nothing is shared.
    """
    kinds: tuple[type[tf.keras.layers.Layer], ...] = (IdEmbedding, LanguageConversion)
    own = {id(weight) for kind in kinds for layer in _layers(target, kind) for weight in layer.weights}
    if _heads(source) != _heads(target):
        own |= {id(weight) for layer in _layers(target, RankingModel) for weight in layer.of_heads}
    shared = _pairs(source, target, lambda one, other: one.trainable and other.trainable and id(other) not in own)
    if not shared.names:
        raise BabelrecError(
            "The two models share no weight: the run to start from has another architecture. Leave `model` out of the "
            "config to use the source run's."
        )
    return shared


def copy_starts(source: tf.keras.Model, target: tf.keras.Model) -> None:
    """Initialises weights that are not shared, but start better from another model's values.

    These are the language conversion of languages common to both, and the factor of neighbours' means.
    """
    given, taken = (model.candidate_tower.conversion for model in (source, target))
    if given is not None and taken is not None:
        taken.copy_from(given)
    for one, other in zip(_layers(source, NeighbourIds), _layers(target, NeighbourIds), strict=False):
        other.factor.assign(one.factor)


def copy_ids(
    source: tf.keras.Model, known: Vocabulary, target: tf.keras.Model, vocabulary: Vocabulary, items: ItemTable
) -> list[tf.Variable]:
    """Copies the vectors of the ids that both vocabularies have, for two states of the same market.

    An id that only ``vocabulary`` has starts where the source's model placed it: unknown, or at its neighbours' mean.

    Args:
        source: A trained model, whose other weights ``target`` has already.
        known: Its vocabulary.
        target: Built, untrained.
        vocabulary: Its vocabulary.
        items: Its catalogue, with all items of ``vocabulary``.

    Returns:
        The tables of vectors that were written.
    """
    given: dict[str, list[IdEmbedding]] = {}
    for layer in _layers(source, IdEmbedding):
        given.setdefault(layer.name, []).append(layer)
    written = []
    for layer in _layers(target, IdEmbedding):
        if not given.get(layer.name):
            continue
        one = given[layer.name].pop(0)
        before, after = _values(known)[layer.name], _values(vocabulary)[layer.name]
        index = index_of(before)
        places = np.array([UNKNOWN, *(index.get(value, UNKNOWN) for value in after)])
        old = one.table.numpy()
        old[UNKNOWN] = 0.0
        table = old[places]
        if isinstance(layer, NeighbourIds):
            new = np.flatnonzero(places[1:] == UNKNOWN)
            table[1 + new] = _neighbours_mean(items, layer, table, new)
        layer.table.assign(table)
        written.append(layer.table)
    return written


def _values(vocabulary: Vocabulary) -> dict[str, list[str]]:
    """The ids of each layer of vectors, by its name."""
    features = vocabulary.query_values
    return {"user": vocabulary.users, "item": vocabulary.items, "category": vocabulary.categories, **features}


def _neighbours_mean(
    items: ItemTable, layer: NeighbourIds, table: npt.NDArray[np.float32], new: npt.NDArray[np.intp]
) -> npt.NDArray[np.float32]:
    """Float32 [n, D] for the items with indices ``new`` [n] (from 0), which have no vector in ``table`` yet."""
    row_of = np.empty(len(table), np.int64)
    row_of[items.ids.numpy()] = np.arange(items.size)
    near, weights = items.neighbours.at(row_of[1 + new])
    weights = np.where(np.isin(near, new), np.float32(0.0), weights)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    mean: npt.NDArray[np.float32] = layer.factor.numpy() * (
        Neighbours(near, weights).matrix(len(table) - 1) @ table[1:]
    )
    return mean


def _heads(model: tf.keras.Model) -> list[list[str]]:
    return [[head.name for head in layer.heads] for layer in _layers(model, RankingModel)]


def _layers(model: tf.keras.Model, kind: type[_Layer]) -> Iterator[_Layer]:
    return (layer for layer in model.submodules if isinstance(layer, kind))


def all_weights(source: tf.keras.Model, target: tf.keras.Model) -> Shared:
    """Every weight with the same path and shape in both models, including id vectors.

    For two models with the same vocabulary.
    """
    return _pairs(source, target, lambda one, other: True)


def _pairs(
    source: tf.keras.Model, target: tf.keras.Model, wanted: Callable[[tf.Variable, tf.Variable], bool]
) -> Shared:
    there = weight_paths(target)
    pairs = {
        name: (weight, there[name])
        for name, weight in weight_paths(source).items()
        if name in there and weight.shape == there[name].shape and wanted(weight, there[name])
    }
    return Shared(list(pairs), [one for one, _ in pairs.values()], [other for _, other in pairs.values()])


def weight_paths(model: tf.keras.Model) -> dict[str, tf.Variable]:
    """The model's weights by the shortest attribute path that leads to each."""
    own = {id(weight) for weight in model.weights}
    view = tf.train.TrackableView(model)
    found: dict[str, tf.Variable] = {}
    seen: set[int] = set()
    queue = deque([("", model)])
    while queue:
        path, part = queue.popleft()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, tf.Variable):
            if id(part) in own:
                found[path] = part
            continue
        queue.extend((f"{path}/{name}".lstrip("/"), child) for name, child in view.children(part).items())
    return found
