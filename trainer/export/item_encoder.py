"""Item features in the graph: what a catalogue's tables hold of each item, computed for items that come later."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from serving import contract
from trainer.config.settings import Config
from trainer.data.item_table import ItemFeatures, ItemTable
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.export.bounds import Bounds, encode_in_parts
from trainer.export.filters import string_table
from trainer.export.users import variable
from trainer.text.encoder import encoder_handle, load_encoder
from trainer.text.language_means import LanguageMeans
from trainer.text.preprocessing import Preprocessor
from trainer.text.tuning import TunedEncoder
from trainer.towers.neighbours import CROWD, softmax_of_nearest
from trainer.towers.relations import Relations

Tensors = Mapping[str, tf.Tensor]


class ItemEncoder(tf.Module):
    """Inputs of `embed_items` -> features as of `trainer.data.item_table.ItemTable`.

    All that a table takes from its catalogue as a whole (means by language, the known items) is that of the run's.

    Args:
        config: Of the run.
        vocabulary: Of the run.
        items: The run's catalogue.
        relations: Of the run.
        encoder: The encoder that serves, string [n] -> float32 [n, T].
        preprocessor: What is done to texts before; None: nothing.
        bounds: Of the export.

    Raises:
        BabelrecError: Two columns have the same input.
    """

    def __init__(
        self,
        config: Config,
        vocabulary: Vocabulary,
        items: ItemTable,
        relations: Relations,
        encoder: tf.keras.layers.Layer,
        preprocessor: Preprocessor | None,
        bounds: Bounds,
    ) -> None:
        super().__init__(name="item_encoder")
        self._bounds = bounds
        self._preprocessor = preprocessor
        self._encoder = encoder
        self._mode = config.text.tuning.mode
        self._numeric = list(vocabulary.numeric)
        self._embeddings = dict(vocabulary.embeddings)
        self._year = config.model.candidate.neighbours.year_column if relations.has_neighbours else None
        self.columns = _columns([*self._numeric, *([self._year] if self._year else [])], self._embeddings)
        self._ids = string_table(vocabulary.items)
        self._languages = string_table(vocabulary.languages)
        self._category_ids = string_table(vocabulary.categories)
        self._labels = string_table(items.catalogue.category_labels)
        # Line 0 is "no label".
        self._label_vectors = variable(items.category_vectors.numpy(), tf.float32)
        self._neighbours = _Neighbours(config, relations) if relations.has_neighbours else None
        self._category_weight = config.model.content.category_weight if relations.has_content else None
        if relations.has_neighbours or relations.has_content:
            self._space_languages = Centring(relations.known.space.languages)
            self._space_categories = variable(relations.known.space.categories, tf.float32)
        # Labels and content are those of the encoder before it was trained.
        self._original = (
            encoder
            if self._mode == "frozen"
            else load_encoder(encoder_handle(config.text, table=config.export.text_table))
        )
        self._width = int(self._label_vectors.shape[1])

    def texts(self, inputs: Tensors) -> tf.Tensor:
        """The items' texts, string [n]: title and description."""
        title, description = inputs["title"], inputs["description"]
        both = (tf.strings.length(title) > 0) & (tf.strings.length(description) > 0)
        return self._bounds.texts(tf.strings.join([title, tf.where(both, ". ", ""), description]))

    def sentences(self, texts: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
        """Sentence vectors of string [n] as the model compares them before conversion, float32 [n, T]."""
        return self._encode(self._encoder, texts, languages)

    def __call__(self, inputs: Tensors, texts: tf.Tensor) -> ItemFeatures:
        """Features of n items; ``texts`` as of `texts`."""
        languages, categories = inputs["language"], inputs["categories"]
        labels = tf.gather(self._label_vectors, self._labels.lookup(categories) + 1)
        labels += self._new_labels(categories)
        there = tf.cast(tf.strings.length(categories) > 0, tf.float32)
        total = tf.reduce_sum(labels, axis=1)
        ids = self._ids.lookup(inputs["item_id"]) + 1
        text = self._text(texts, languages)
        (neighbours, weights), content = self._relations(inputs, texts, text, total, ids)
        columns = [inputs[contract.column_input("number", name)] for name in self._numeric]
        embeddings = [inputs[contract.column_input("embedding", name)] for name in self._embeddings]
        size = tf.size(ids)
        return ItemFeatures(
            id=ids,
            text=text,
            language=self._languages.lookup(languages) + 1,
            categories=self._category_ids.lookup(categories) + 1,
            category_text=total / tf.maximum(tf.reduce_sum(there, axis=1, keepdims=True), 1.0),
            numeric=tf.stack(columns, axis=1) if columns else tf.zeros([size, 0]),
            embeddings=tf.concat(embeddings, axis=1) if embeddings else tf.zeros([size, 0]),
            neighbours=neighbours,
            neighbour_weights=weights,
            content=content,
        )

    def _text(self, texts: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
        """What the candidate tower takes of texts: see `trainer.text.tuning.text_features`."""
        if self._mode == "full":
            return self._prepared(texts, languages)
        if isinstance(self._encoder, TunedEncoder):
            return self._encoder.trunk(self._prepared(texts, languages))
        return self.sentences(texts, languages)

    def _new_labels(self, categories: tf.Tensor) -> tf.Tensor:
        """Vectors of the labels [n, C] that the run's catalogue has not, float32 [n, C, T]; zero for the others."""
        places = tf.where((self._labels.lookup(categories) < 0) & (tf.strings.length(categories) > 0))
        distinct = tf.unique(tf.gather_nd(categories, places))
        vectors = self._encode(self._original, distinct.y, tf.zeros_like(distinct.y))
        shape = tf.concat([tf.shape(categories, tf.int64), [self._width]], axis=0)
        return tf.scatter_nd(places, tf.gather(vectors, distinct.idx), shape)

    def _relations(
        self, inputs: Tensors, texts: tf.Tensor, text: tf.Tensor, labels: tf.Tensor, ids: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Neighbours and their weights [n, K], and content [n, C]: see `trainer.towers.relations.Relations`."""
        content = tf.zeros([tf.size(ids), 0])
        neighbours = tf.cast(content, tf.int32), content
        if self._neighbours is None and self._category_weight is None:
            return neighbours, content
        # A frozen encoder's vectors are there already.
        vectors = text if self._mode == "frozen" else self._encode(self._original, texts, inputs["language"])
        vectors = tf.math.l2_normalize(vectors, axis=1)
        text = tf.math.l2_normalize(self._space_languages(vectors, inputs["language"]), axis=1)
        there = tf.reduce_any(tf.strings.length(inputs["categories"]) > 0, axis=1)
        categories = tf.math.l2_normalize(tf.math.l2_normalize(labels, axis=1) - self._space_categories, axis=1)
        categories = tf.where(there[:, tf.newaxis], categories, 0.0)
        if self._neighbours is not None:
            assert self._year is not None
            neighbours = self._neighbours(text, categories, inputs[contract.column_input("number", self._year)], ids)
        if self._category_weight is not None:
            written = tf.cast(tf.strings.length(tf.strings.strip(texts)) > 0, tf.float32)[:, tf.newaxis]
            content = tf.concat([text * written, self._category_weight * categories], axis=1)
        return neighbours, content

    def _encode(self, encoder: tf.keras.layers.Layer, texts: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
        def encode(part: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
            return encoder(self._prepared(part, tags))

        return encode_in_parts(encode, self._width, texts, languages)

    def _prepared(self, texts: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
        return texts if self._preprocessor is None else self._preprocessor(texts, languages)


class Centring(tf.Module):
    """`LanguageMeans` in the graph.

    Args:
        means: Of a catalogue.
    """

    def __init__(self, means: LanguageMeans) -> None:
        super().__init__(name="centring")
        self._table = string_table(list(means.languages))
        self._means = variable(np.roll(means.means, 1, axis=0), tf.float32)

    def __call__(self, vectors: tf.Tensor, languages: tf.Tensor) -> tf.Tensor:
        """Vectors [n, T] less the mean of string [n] languages."""
        return vectors - tf.gather(self._means, self._table.lookup(languages) + 1)


class _Neighbours(tf.Module):
    """`trainer.towers.neighbours.nearest_known` in the graph, for items of the run's content space."""

    def __init__(self, config: Config, relations: Relations) -> None:
        super().__init__(name="neighbours")
        self._settings = config.model.candidate.neighbours
        known = relations.known
        self._text = variable(known.text, tf.float32)
        self._categories = variable(known.categories, tf.float32)
        self._years = variable(known.year, tf.float32)
        self._crowding = variable(relations.crowding, tf.float32)
        self._size = len(known.text)

    def __call__(
        self, text: tf.Tensor, categories: tf.Tensor, years: tf.Tensor, ids: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Unit vectors [n, T] of texts and categories, years [n] and vocabulary indices [n] -> K items, weights."""
        settings = self._settings
        similarity = tf.matmul(text, self._text, transpose_b=True)
        similarity += settings.category_weight * tf.matmul(categories, self._categories, transpose_b=True)
        if settings.year_weight:
            apart = tf.abs(years[:, tf.newaxis] - self._years)
            apart = tf.where(tf.math.is_finite(apart), tf.minimum(apart, settings.year_limit), 0.0)
            similarity -= settings.year_weight * apart
        own = tf.range(1, self._size + 1)[tf.newaxis] == ids[:, tf.newaxis]
        similarity = tf.where(own, -np.inf, similarity)
        nearest = tf.math.top_k(similarity, min(CROWD, self._size)).values
        finite = tf.math.is_finite(nearest)
        count = tf.maximum(tf.reduce_sum(tf.cast(finite, tf.float32), axis=1, keepdims=True), 1.0)
        crowding = tf.reduce_sum(tf.where(finite, nearest, 0.0), axis=1, keepdims=True) / count
        similarity -= 0.5 * (self._crowding + crowding)
        return softmax_of_nearest(similarity, min(settings.nearest, self._size), settings.temperature)


def _columns(numbers: Sequence[str], embeddings: Mapping[str, int]) -> dict[str, int | None]:
    """Inputs for item columns -> width of an embedding, None for a number."""
    found: dict[str, tuple[str, int | None]] = {}
    kinds: list[tuple[Literal["number", "embedding"], str, int | None]] = [
        *(("number", name, None) for name in dict.fromkeys(numbers)),
        *(("embedding", name, width) for name, width in embeddings.items()),
    ]
    for kind, name, width in kinds:
        key = contract.column_input(kind, name)
        if key in found:
            raise BabelrecError(
                f"Item columns {found[key][0]!r} and {name!r} would both be input {key} of embed_items. Rename one, "
                "or export without it: export.fresh_items=false."
            )
        found[key] = name, width
    return {key: width for key, (_, width) in found.items()}
