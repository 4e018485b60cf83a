"""Language conversion: a small residual map from the sentence vectors of one language to those of another.

A multilingual encoder puts translations near each other, not in one place: part of the remaining
difference is an offset common to a whole language. The conversion layer learns it with few weights, so that
items and queries of every language end up in the pivot's part of the space.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.errors import BabelrecError

# Largest input of tanh when a linear map is written into the layer. Its error is x^3 / 3: 3 % for a vector entirely
# along one of the map's directions, negligible for sentences, which spread over hundreds. Smaller inputs would be more
# exact, but an optimiser's steps are then large relative to the weights: at 0.05, training unlearned the map at once.
_LINEAR_RANGE = 0.3


class LanguageConversion(tf.keras.layers.Layer):
    """``c(s) = s + W_t tanh(W_s s + b_s + b_t)`` for source language s and target language t.

    ``W_s``, ``b_s`` belong to the source, ``W_t``, ``b_t`` to the target, so L languages need L
    pairs of matrices and not L squared. ``W_t`` starts at zero: the layer starts as the exact
    identity. An unknown source or target (index 0), and a language to itself, use the identity.

    A batch may mix languages. All W_s are applied by one matrix product and each row's own is selected
    from the small result; gathering the matrices first would copy [T, R] weights for every row.

    Args:
        languages: L known languages; index i + 1 is ``languages[i]``.
        bottleneck: R, the width between the two matrices.
        pivot: Target if a call specifies none.

    Raises:
        BabelrecError: ``pivot`` is not among the languages.
    """

    def __init__(self, languages: Sequence[str], bottleneck: int, *, pivot: str, name: str = "conversion") -> None:
        super().__init__(name=name)
        if pivot not in languages:
            raise BabelrecError(
                f"model.conversion.pivot is {pivot!r}, and the training part has texts in {', '.join(languages)}. "
                "Choose one of these, or provide translations of the items."
            )
        self.languages = list(languages)
        self.bottleneck = bottleneck
        self.pivot = self.languages.index(pivot) + 1

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the weights for vectors [n, T]."""
        width, known = int(input_shape[-1]), len(self.languages)
        self.down = self.add_weight(
            name="down",
            shape=(width, known + 1, self.bottleneck),
            initializer=tf.keras.initializers.RandomNormal(stddev=1.0 / np.sqrt(width)),
        )
        self.up = self.add_weight(name="up", shape=(known + 1, self.bottleneck, width), initializer="zeros")
        self.source_bias = self.add_weight(name="source_bias", shape=(known + 1, self.bottleneck), initializer="zeros")
        self.target_bias = self.add_weight(name="target_bias", shape=(known + 1, self.bottleneck), initializer="zeros")
        super().build(input_shape)

    def call(self, vectors: tf.Tensor, source: tf.Tensor, target: tf.Tensor | None = None) -> tf.Tensor:
        """Float32 [n, T] and int32 [n] language indices -> float32 [n, T].

        Args:
            vectors: Sentence vectors.
            source: Language of each, 0 unknown.
            target: Language to convert each into; None: the pivot.
        """
        if target is None:
            target = tf.fill(tf.shape(source), self.pivot)
        changes = (source > 0) & (target > 0) & (source != target)
        width, slots = vectors.shape[-1], (len(self.languages) + 1) * self.bottleneck
        every = tf.reshape(
            tf.matmul(vectors, tf.reshape(self.down, [width, slots])), [-1, slots // self.bottleneck, self.bottleneck]
        )
        inner = tf.gather(every, source, batch_dims=1)
        inner = tf.tanh(inner + tf.gather(self.source_bias, source) + tf.gather(self.target_bias, target))
        inner *= tf.cast(changes, tf.float32)[:, tf.newaxis]
        slot = tf.one_hot(target, len(self.languages) + 1)[:, :, tf.newaxis] * inner[:, tf.newaxis, :]
        return vectors + tf.matmul(tf.reshape(slot, [-1, slots]), tf.reshape(self.up, [slots, width]))

    def set_linear_maps(self, maps: Mapping[tuple[str, str], npt.NDArray[np.floating]]) -> None:
        """Initialises from linear maps, as accurately as the bottleneck allows.

        For a map ``Q`` (row vectors, ``s Q``) the layer has to add ``s (Q - I)``. The block matrix of all
        ``Q - I`` (rows: source, columns: target; zero where no map is given) is truncated to its R largest
        singular values, the best approximation of that rank (Eckart & Young, 1936); one factor becomes
        the sources' W, the other the targets'. The inputs of tanh are scaled down to its linear range.

        Args:
            maps: (source, target) -> float [T, T]; the layer must be built.

        Raises:
            ValueError: an unknown language or another shape.
        """
        width = int(self.down.shape[0])
        sources, targets = (sorted({pair[side] for pair in maps}) for side in (0, 1))
        blocks = np.zeros((len(sources) * width, len(targets) * width))
        rows, columns = (
            {tag: slice(width * i, width * (i + 1)) for i, tag in enumerate(tags)} for tags in (sources, targets)
        )
        for (source, target), matrix in maps.items():
            if source not in self.languages or target not in self.languages or matrix.shape != (width, width):
                raise ValueError(f"a map {source} -> {target} of shape {matrix.shape} for {self.languages}, {width}")
            blocks[rows[source], columns[target]] = matrix - np.eye(width)
        left, values, right = np.linalg.svd(blocks, full_matrices=False)
        rank = min(self.bottleneck, len(values))
        # A source without a map stays the identity, although its target's W is no longer zero.
        down, up = np.zeros_like(self.down.numpy()), np.zeros_like(self.up.numpy())
        for tag in sources:
            # A unit vector times columns of an orthogonal matrix stays within [-1, 1].
            down[:, self.languages.index(tag) + 1, :rank] = left[rows[tag], :rank] * _LINEAR_RANGE
        for tag in targets:
            index = self.languages.index(tag) + 1
            up[index, :rank] = values[:rank, np.newaxis] * right[:rank, columns[tag]] / _LINEAR_RANGE
        self.down.assign(down)
        self.up.assign(up)

    def copy_from(self, other: "LanguageConversion") -> int:
        """Copies the weights of the languages known to both layers; returns their number.

        Indices of a language differ between vocabularies. Nothing is copied from a layer of another shape.
        """
        if self.down.shape[0] != other.down.shape[0] or self.bottleneck != other.bottleneck:
            return 0
        shared = [tag for tag in self.languages if tag in other.languages]
        mine, theirs = ([layer.languages.index(tag) + 1 for tag in shared] for layer in (self, other))
        for name, axis in (("down", 1), ("up", 0), ("source_bias", 0), ("target_bias", 0)):
            variable = getattr(self, name)
            value = variable.numpy()
            new = getattr(other, name).numpy()
            if axis == 1:
                value[:, mine] = new[:, theirs]
            else:
                value[mine] = new[theirs]
            variable.assign(value)
        return len(shared)
