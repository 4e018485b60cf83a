"""The catalogue as tensors in the graph: item features by row."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.catalogue import Catalogue
from trainer.data.category_names import CategoryNames
from trainer.data.item_variants import ItemVariants
from trainer.data.neighbours import Neighbours
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of


class ItemFeatures(TypedDict):
    """Features of n items.

    ``id``, ``language``: int32 [n] vocabulary indices, 0 unknown. ``text``: float32 [n, T] vectors,
    or the input of the encoder's trained part (string [n] for a whole encoder). ``categories``: int32 [n, C] vocabulary
    indices, 0 unknown or padding. ``category_text``: float32 [n, T], the mean vector of the item's
    category labels (zero without any). ``numeric``: float32 [n, F], NaN where absent.
    ``embeddings``: float32 [n, E], all embedding columns side by side.
    ``neighbours``: int32 [n, K], similar items, as indices of the V known ones from 0, and ``neighbour_weights``:
    float32 [n, K], theirs (K is 0 if the tower doesn't use them).
    ``content``: float32 [n, C], compared with a history's (C is 0 if it isn't); zeros in training.
    """

    id: tf.Tensor
    text: tf.Tensor
    language: tf.Tensor
    categories: tf.Tensor
    category_text: tf.Tensor
    numeric: tf.Tensor
    embeddings: tf.Tensor
    neighbours: tf.Tensor
    neighbour_weights: tf.Tensor
    content: tf.Tensor


class ItemTable(tf.Module):
    """Features of every item of one catalogue, read by row.

    A model is trained with one table and can be switched to another: items of a catalogue that the
    vocabulary doesn't know have id 0 and are placed by their content.

    Args:
        catalogue: N items.
        vocabulary: From the training part.
        texts: Float32 [N, T], vectors or the input of the encoder's trained part, or a list of N prepared texts for an
            encoder that is fully trained.
        category_vectors: float32 [K, T], vectors of ``catalogue.category_labels``.
        variants: Additional texts that replace an item's own in training.
        names: The names of categories, and their vectors float32 [M, T]; None: labels have no other names.
        neighbours: Each item's similar ones among the V known (`trainer.towers.neighbours`); None: the model doesn't
            look at them.
        content: Float32 [N, C], compared with a history's (`trainer.scorers.content`); None: it isn't.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        vocabulary: Vocabulary,
        texts: npt.NDArray[np.float32] | list[str],
        category_vectors: npt.NDArray[np.float32],
        variants: ItemVariants | None = None,
        names: tuple[CategoryNames, npt.NDArray[np.float32]] | None = None,
        neighbours: Neighbours | None = None,
        content: npt.NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(name="item_table")
        self.size = len(catalogue)
        self.catalogue = catalogue
        nothing = np.zeros((self.size, 0), np.float32)
        self.neighbours = Neighbours(nothing.astype(np.int32), nothing) if neighbours is None else neighbours
        self._neighbours = _constant(self.neighbours.items, tf.int32)
        self._neighbour_weights = _constant(self.neighbours.weights, tf.float32)
        self.content = _constant(nothing if content is None else content, tf.float32)
        self._variants = variants
        ids, languages, categories = (
            index_of(values) for values in (vocabulary.items, vocabulary.languages, vocabulary.categories)
        )
        self.ids = _constant([ids.get(value, UNKNOWN) for value in catalogue.item_ids], tf.int32)
        self.languages = _constant([languages.get(value, UNKNOWN) for value in catalogue.languages], tf.int32)
        # One row more than labels, so that padding (-1 + 1 = 0) points at an empty label.
        label_indices = [UNKNOWN] + [categories.get(label, UNKNOWN) for label in catalogue.category_labels]
        self.category_rows = _constant(catalogue.categories + 1, tf.int32)
        self.category_indices = _constant(label_indices, tf.int32)
        width = category_vectors.shape[1]
        self.category_vectors = _constant(
            np.concatenate([np.zeros((1, width), np.float32), category_vectors]), tf.float32
        )
        self._label_names = CategoryNames(catalogue.category_labels) if names is None else names[0]
        self._names = None if names is None else (_constant(names[1], tf.float32), _constant(names[0].splits, tf.int32))
        columns = [catalogue.numeric.get(name) for name in vocabulary.numeric]
        absent = np.full(self.size, np.nan, np.float32)
        self.numeric = _constant(
            np.stack([absent if column is None else column for column in columns], axis=1)
            if columns
            else np.zeros((self.size, 0), np.float32),
            tf.float32,
        )
        blocks = [
            catalogue.embeddings.get(name, np.zeros((self.size, dimension), np.float32))
            for name, dimension in vocabulary.embeddings.items()
        ]
        self.embeddings = _constant(
            np.concatenate(blocks, axis=1) if blocks else np.zeros((self.size, 0), np.float32), tf.float32
        )
        self.texts = _constant(texts, tf.string if isinstance(texts, list) else tf.float32)

    def text(self, rows: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Texts [n, ...] of the items at int32 ``rows`` [n] and their languages, int32 [n]."""
        texts, languages = tf.gather(self.texts, rows), tf.gather(self.languages, rows)
        if not training or self._variants is None:
            return texts, languages
        return self._variants.choose(rows, texts, languages)

    @property
    def names(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Vectors [M, T] of the category names, and bounds [K + 1] of each label's names."""
        if self._names is None:
            vectors = self.category_vectors.numpy()[1:]
            return vectors, np.arange(len(vectors) + 1, dtype=np.int32)
        return self._names[0].numpy(), self._names[1].numpy()

    def names_of(self, label: int) -> list[str]:
        """The names of a category label, its own text first."""
        first, end = self._label_names.splits[label : label + 2]
        return self._label_names.texts[first:end]

    def label(self, labels: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Vectors float32 [n, T] of the category labels at int32 ``labels`` [n]; in training, of random names."""
        if not training or self._names is None:
            return tf.gather(self.category_vectors, labels + 1)
        vectors, splits = self._names
        first, end = tf.gather(splits, labels), tf.gather(splits, labels + 1)
        drawn = tf.random.uniform(tf.shape(labels)) * tf.cast(end - first, tf.float32)
        return tf.gather(vectors, tf.minimum(first + tf.cast(drawn, tf.int32), end - 1))

    def __call__(self, rows: tf.Tensor, training: bool = False) -> ItemFeatures:
        """Features of the items at int32 ``rows`` [n]; in training, each with a random one of its texts."""
        texts, languages = self.text(rows, training)
        category_rows = tf.gather(self.category_rows, rows)
        labelled = tf.where(category_rows > 0)
        mean = tf.sparse.segment_mean(
            self.category_vectors, tf.gather_nd(category_rows, labelled), labelled[:, 0], num_segments=tf.size(rows)
        )
        return ItemFeatures(
            id=tf.gather(self.ids, rows),
            text=texts,
            language=languages,
            categories=tf.gather(self.category_indices, category_rows),
            category_text=mean,
            numeric=tf.gather(self.numeric, rows),
            embeddings=tf.gather(self.embeddings, rows),
            neighbours=tf.gather(self._neighbours, rows),
            neighbour_weights=tf.gather(self._neighbour_weights, rows),
            # Nothing is trained with it, and gathering its thousand numbers would be most of a step.
            content=tf.zeros([tf.size(rows), self.content.shape[1]]) if training else tf.gather(self.content, rows),
        )


def _constant(values: object, dtype: tf.DType) -> tf.Variable:
    # A variable and not a tf.constant: a constant is copied into every graph that uses it, and a
    # GraphDef may not exceed 2 GB.
    with tf.device("CPU:0"):
        return tf.Variable(tf.convert_to_tensor(values, dtype), trainable=False)
