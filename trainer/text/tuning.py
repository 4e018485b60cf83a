"""The text encoder's trained part: adapters, LoRA, its last layers, or all of it.

mUSE is split at its pooling (docs/encoder.md). The trunk below (token table, n-gram branches, sum over tokens)
is frozen, and its output for a catalogue is computed once and cached; the head above, a residual network of
six dense kernels, is a Keras layer here. So a training step costs a few products of [n, 512] instead of a full
encoder pass over strings.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.errors import BabelrecError
from trainer.text.encoder import MUSE_ENCODERS, encoder_handle, load_encoder, trunk_handle
from trainer.text.settings import TextConfig, TuningConfig
from trainer.text.vectors import Vectors, encode_texts
from trainer.text.weights import MuseWeights, load_weights

# mUSE's layers after the pooling, the last one first, and their kernels.
_LAYERS = (("p3", "d3"), ("d2",), ("p1", "d1"), ("d0",))
_KERNELS = tuple(name for layer in _LAYERS for name in layer)


class Bottleneck(tf.keras.layers.Layer):
    """An adapter: x + U gelu(D x + b) + c with a narrow middle (Houlsby et al., 2019, arXiv 1902.00751, fig. 2).

    U starts at zero, so the layer starts as the exact identity. Float32 [n, T] -> float32 [n, T].
    """

    def __init__(self, width: int, *, name: str) -> None:
        super().__init__(name=name)
        self._width = width

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the two layers."""
        self._down = tf.keras.layers.Dense(self._width, activation="gelu", name="down")
        self._up = tf.keras.layers.Dense(input_shape[-1], kernel_initializer="zeros", name="up")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Adds the correction."""
        return inputs + self._up(self._down(inputs))


class MuseHead(tf.keras.layers.Layer):
    """mUSE after its pooling: float32 [n, 512] -> unit vectors float32 [n, 512].

    Computes the same as `trainer.text.muse.Muse`, with the part chosen by ``tuning`` trainable: before training its
    vectors are exactly the frozen encoder's.

    Args:
        kernels: The six dense kernels by name.
        epsilon: Epsilon of the final normalisation.
        tuning: What is trained. ``adapters`` follow the pooling and each residual block, ``lora``
            updates all six kernels, ``last`` trains the kernels of ``tuning.layers`` layers, ``frozen`` nothing.
        encoder_size: Parameters of the whole encoder.
    """

    def __init__(
        self,
        kernels: Mapping[str, npt.NDArray[np.float32]],
        epsilon: float,
        tuning: TuningConfig,
        *,
        encoder_size: int,
    ) -> None:
        super().__init__(name="encoder")
        self._epsilon = epsilon
        self._tuning = tuning
        self.encoder_size = encoder_size
        trained = {name for layer in _LAYERS[: tuning.layers] for name in layer} if tuning.mode == "last" else set()
        self._kernels = {
            name: self.add_weight(
                name=name,
                shape=kernels[name].shape,
                initializer=tf.keras.initializers.Constant(kernels[name]),
                trainable=name in trained,
            )
            for name in _KERNELS
        }
        self._updates = (
            {name: self._low_rank(name, *kernels[name].shape) for name in _KERNELS} if tuning.mode == "lora" else {}
        )
        self._adapters = (
            [Bottleneck(tuning.bottleneck, name=f"adapter_{place}") for place in range(3)]
            if tuning.mode == "adapters"
            else []
        )

    def call(self, pooled: tf.Tensor) -> tf.Tensor:
        """Pooled sentences to vectors."""
        pooled = self._adapt(0, pooled)
        hidden = tf.nn.relu(self._product(pooled, "d0"))
        first = self._adapt(1, tf.nn.relu(self._product(pooled, "p1") + self._product(hidden, "d1")))
        hidden = tf.nn.relu(self._product(first, "d2"))
        last = self._adapt(2, self._product(first, "p3") + self._product(hidden, "d3"))
        return tf.math.l2_normalize(tf.math.tanh(last), axis=-1, epsilon=self._epsilon)

    def merged(self) -> "MuseHead":
        """The same function without LoRA's extra products: the updates are added to the kernels. For serving."""
        if not self._updates:
            return self
        kernels = {
            name: (kernel + self._scale * self._updates[name][0] @ self._updates[name][1]).numpy()
            for name, kernel in self._kernels.items()
        }
        return MuseHead(kernels, self._epsilon, TuningConfig(), encoder_size=self.encoder_size)

    @property
    def _scale(self) -> float:
        return self._tuning.alpha / self._tuning.rank

    def _low_rank(self, name: str, rows: int, columns: int) -> tuple[tf.Variable, tf.Variable]:
        """Returns a Gaussian and a zero factor, whose product starts at zero (arXiv 2106.09685, section 4.1)."""
        rank = self._tuning.rank
        deviation = tf.keras.initializers.RandomNormal(stddev=1.0 / np.sqrt(rows))
        return (
            self.add_weight(name=f"{name}_a", shape=(rows, rank), initializer=deviation),
            self.add_weight(name=f"{name}_b", shape=(rank, columns), initializer="zeros"),
        )

    def _product(self, inputs: tf.Tensor, name: str) -> tf.Tensor:
        product = inputs @ self._kernels[name]
        if name in self._updates:
            narrow, wide = self._updates[name]
            product += self._scale * ((inputs @ narrow) @ wide)
        return product

    def _adapt(self, place: int, values: tf.Tensor) -> tf.Tensor:
        return self._adapters[place](values) if self._adapters else values


class OutputAdapter(tf.keras.layers.Layer):
    """An adapter after any encoder's vectors, float32 [n, T] -> float32 [n, T].

    Args:
        width: Width of the bottleneck.
        encoder_size: Parameters of the encoder in front of it.
    """

    def __init__(self, width: int, *, encoder_size: int) -> None:
        super().__init__(name="encoder")
        self.encoder_size = encoder_size
        self._adapter = Bottleneck(width, name="adapter")

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """Adapts the vectors."""
        return self._adapter(vectors)

    def merged(self) -> "OutputAdapter":
        """Itself: an adapter can't be merged."""
        return self


class TunedEncoder(tf.keras.layers.Layer):
    """Trunk and trained part in one: string [n] -> float32 [n, T]. For serving."""

    def __init__(self, trunk: tf.keras.layers.Layer, head: MuseHead | OutputAdapter) -> None:
        super().__init__(name="tuned_encoder", trainable=False)
        self.trunk = trunk
        self._head = head

    def call(self, texts: tf.Tensor) -> tf.Tensor:
        """Vectors of texts."""
        return self._head(self.trunk(texts))


def text_features(texts: list[str], text: TextConfig) -> Vectors | None:
    """The candidate tower's input for each text: vectors, the trunk's output, or None for the strings themselves."""
    mode = text.tuning.mode
    if mode == "full":
        return None
    return encode_texts(texts, text) if mode == "frozen" else encode_texts(texts, text, handle=trunk_handle(text))


def trained_part(text: TextConfig) -> tf.keras.layers.Layer | None:
    """The layer that maps `text_features` to vectors; None if they already are vectors.

    Raises:
        BabelrecError: the encoder has no such part.
    """
    tuning = text.tuning
    if tuning.mode == "frozen":
        return None
    if tuning.mode == "full":
        return load_encoder(encoder_handle(text), trainable=True)
    if text.encoder in MUSE_ENCODERS:
        weights = load_weights()
        kernels = {name: weights.dense[name] for name in _KERNELS}
        return MuseHead(kernels, weights.epsilon, tuning, encoder_size=_size(weights))
    if tuning.mode == "adapters":
        return OutputAdapter(tuning.bottleneck, encoder_size=_variables(load_encoder(encoder_handle(text))))
    raise BabelrecError(
        f"text.tuning.mode {tuning.mode!r} changes layers inside mUSE, and text.encoder is {text.encoder!r}, whose "
        "layers are not known. Remedy: `adapters` or `full`."
    )


def serving_encoder(
    text: TextConfig, part: tf.keras.layers.Layer | None, *, table: Literal["float", "quantized"]
) -> tf.keras.layers.Layer:
    """The encoder of typed text, string [n] -> float32 [n, T].

    Args:
        text: Settings of the run.
        part: The run's trained part, see `trained_part`.
        table: mUSE's token table; a fully trained encoder keeps its own.
    """
    if part is None:
        return load_encoder(encoder_handle(text, table=table))
    if isinstance(part, MuseHead | OutputAdapter):
        return TunedEncoder(load_encoder(trunk_handle(text, table=table)), part.merged())
    return part


def parameter_counts(part: tf.keras.layers.Layer | None, text: TextConfig) -> dict[str, Any]:
    """Parameters of the encoder: ``total``, ``trained`` and the ``share`` that is trained.

    Trained parameters are counted by Keras. The total is the original encoder's, including its token table.
    """
    if part is None:
        total = (
            _size(load_weights()) if text.encoder in MUSE_ENCODERS else _variables(load_encoder(encoder_handle(text)))
        )
        return {"total": total, "trained": 0, "share": 0.0}
    trained = sum(tf.keras.backend.count_params(weight) for weight in part.trainable_weights)
    total = part.encoder_size if isinstance(part, MuseHead | OutputAdapter) else _variables(part)
    return {"total": int(total), "trained": int(trained), "share": trained / max(total, 1)}


def _size(weights: MuseWeights) -> int:
    return weights.codes.size + sum(array.size for array in weights.dense.values())


def _variables(layer: tf.keras.layers.Layer) -> int:
    return sum(int(np.prod(variable.shape)) for variable in layer.resolved_object.variables)
