"""Character n-grams of texts with BM25 weights, in the graph, to find names, model numbers, and words with typos.

A sentence encoder captures the meaning of words, but hardly their spelling. A name, a model number or a mistyped
title is found by the characters that it shares with an item's text. Items are indexed by the trigrams of their words
with BM25 weights (Robertson and Zaragoza, 2009, doi 10.1561/1500000019), and by bigrams in scripts with one
character for a syllable or a word (Han, kana, Hangul). Case, accents and compatibility forms (full-width letters, Roman
numerals) are ignored.
"""

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

_Ints = npt.NDArray[np.int32]
# BM25's saturation of repeated n-grams and the weight of a text's length.
_K1: Final = 1.2
_B: Final = 0.75
# Characters read per text: titles and the beginning of descriptions; queries are shorter.
_LONGEST: Final = 256
# An n-gram in more items than this, and in more than a twentieth of the catalogue, is uninformative and costly.
_COMMON: Final = 2_000
_MIN_BUCKETS: Final = 1 << 14
_MAX_BUCKETS: Final = 1 << 22
_TEXTS_AT_ONCE: Final = 8_192
# Planes 0 to 3 hold all scripts in use; characters beyond them separate words.
_CODE_POINTS: Final = 0x40000
_SEPARATOR: Final = 0
_DROPPED: Final = -1
_KANA: Final = ((0x3040, 0x30FF),)
# Han, kana and Hangul syllables: first and last code points.
_SYLLABIC: Final = (
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
# Accents, the vowel signs of Arabic and Hebrew, the dots of Indic letters and of kana, and variation selectors: writers
# leave them out, or write them as a part of the letter.
_OPTIONAL_MARKS: Final = (
    *((0x0300, 0x036F), (0x0591, 0x05C7), (0x064B, 0x065F), (0x093C, 0x093C), (0x09BC, 0x09BC), (0x0A3C, 0x0A3C)),
    *((0x3099, 0x309C), (0xFE00, 0xFE0F), (0xFF9E, 0xFF9F)),
)
# Odd factors of xxHash, which spread code points over at least 32 bits.
_FACTORS: Final = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)


class Grams(NamedTuple):
    """N-grams of B texts: int32 [E] hash buckets, and the int32 [E] text that each belongs to."""

    buckets: tf.Tensor
    lines: tf.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class GramStatistics:
    """How informative the n-grams of a catalogue's texts are.

    Attributes:
        weights: Float32 [B], inverse document frequency of each hash bucket, 0 for too common ones; B is a power of 2.
        mean_length: Mean number of n-grams in a text, at least 1.
    """

    weights: npt.NDArray[np.float32]
    mean_length: float


class LexicalIndex(tf.Module):
    """Scores how much of a query's n-grams each text of a catalogue contains.

    The score of an item is its BM25 sum over the query's n-grams, divided by the sum for a text of average length
    that has each of them once, and at most 1. N-grams in no item get the largest weight, so that accidental
    character overlap with a text in another language counts little.

    Args:
        texts: N texts, one per item.
        fitted: Statistics to weight n-grams by; None: those of ``texts``.

    Attributes:
        statistics: What the n-grams are weighted by.
    """

    def __init__(self, texts: Sequence[str], fitted: GramStatistics | None = None) -> None:
        super().__init__(name="lexical_index")
        self.size = len(texts)
        if fitted is None:
            length = float(sum(min(len(text), _LONGEST) for text in texts))
            # A bucket for each n-gram that texts of this length can contain; few of them are distinct.
            wanted = 1 << max(0, int(np.ceil(np.log2(max(length, 1.0)))))
            self._buckets = int(np.clip(wanted, _MIN_BUCKETS, _MAX_BUCKETS))
        else:
            self._buckets = len(fitted.weights)
        with tf.device("CPU:0"):
            self._characters = tf.Variable(_folded_characters(), trainable=False, name="characters")
        buckets, rows, counts = self._postings(texts)
        lengths = np.bincount(rows, counts, minlength=self.size).astype(np.float32)
        if fitted is None:
            spread = np.bincount(buckets, minlength=self._buckets)
            weight = np.log1p((self.size - spread + 0.5) / (spread + 0.5)).astype(np.float32)
            weight[spread > max(_COMMON, self.size // 20)] = 0.0
            fitted = GramStatistics(weight, max(float(lengths.mean()) if self.size else 0.0, 1.0))
        self.statistics, weight = fitted, fitted.weights
        norm = _K1 * (1.0 - _B + _B * lengths / fitted.mean_length)
        scores = weight[buckets] * (counts * (_K1 + 1.0) / (counts + norm[rows]))
        kept = weight[buckets] > 0.0
        splits = np.concatenate([[0], np.cumsum(np.bincount(buckets[kept], minlength=self._buckets))])
        with tf.device("CPU:0"):
            # Variables and not constants: a GraphDef may not exceed 2 GB.
            self._splits = tf.Variable(splits.astype(np.int32), trainable=False, name="splits")
            self._rows = tf.Variable(rows[kept].astype(np.int32), trainable=False, name="rows")
            self._scores = tf.Variable(scores[kept].astype(np.float32), trainable=False, name="scores")
            self._weights: tf.Variable = tf.Variable(weight, trainable=False, name="weights")

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Scores of string [B] against every item, float32 [B, N] in [0, 1]; zero for a blank text."""
        return self.scores(self.grams(texts), tf.size(texts))

    def grams(self, texts: tf.Tensor) -> Grams:
        """The n-grams of string [B]; bytes that are not UTF-8 separate words."""
        # A character has at most four bytes: the rest is not decoded.
        padded = tf.strings.join([" ", tf.strings.substr(texts, 0, 4 * _LONGEST), " "])
        decoded = tf.strings.unicode_decode(padded, "UTF-8", errors="replace")[:, :_LONGEST]
        codes, lines = decoded.flat_values, _row_ids(decoded)
        inside = codes < _CODE_POINTS
        folded = tf.where(inside, tf.gather(self._characters, tf.where(inside, codes, 0)), _SEPARATOR)
        kept = tf.where(folded != _DROPPED)[:, 0]
        folded, lines = tf.gather(folded, kept), tf.gather(lines, kept)
        # Windows of three characters around each one inside a word; for a syllable the one before doesn't count.
        middle = folded[1:-1]
        whole = tf.where((lines[:-2] == lines[2:]) & (middle != _SEPARATOR))[:, 0]
        syllable = middle < 0
        before = tf.where(syllable, 0, folded[:-2])
        total = tf.zeros_like(middle, tf.int64)
        for factor, character in zip(_FACTORS, (before, middle, folded[2:]), strict=True):
            total += factor * tf.cast(tf.abs(character), tf.int64)
        # The upper bits of a product depend on all bits of a factor, so they are mixed into the bucket's bits.
        mixed = tf.bitwise.bitwise_xor(total, tf.bitwise.right_shift(total, tf.constant(17, tf.int64)))
        buckets = tf.cast(tf.bitwise.bitwise_and(mixed, self._buckets - 1), tf.int32)
        return Grams(tf.gather(buckets, whole), tf.gather(lines, whole + 1))

    def scores(self, grams: Grams, count: tf.Tensor) -> tf.Tensor:
        """Scores of the ``count`` queries that the n-grams belong to, float32 [count, N]."""
        starts = tf.gather(self._splits, grams.buckets)
        places = tf.ragged.range(starts, tf.gather(self._splits, grams.buckets + 1))
        owners = tf.gather(grams.lines, _row_ids(places))
        found = owners * self.size + tf.gather(self._rows, places.flat_values)
        sums = tf.math.unsorted_segment_sum(tf.gather(self._scores, places.flat_values), found, count * self.size)
        whole = tf.math.unsorted_segment_sum(tf.gather(self._weights, grams.buckets), grams.lines, count)
        sums = tf.reshape(sums, [count, self.size])
        return tf.minimum(tf.math.divide_no_nan(sums, whole[:, tf.newaxis]), 1.0)

    def scores_of_one(self, buckets: tf.Tensor) -> tf.Tensor:
        """Scores of one query, whose n-grams are in int32 [E] ``buckets``, float32 [N]: cheaper than `scores`."""
        starts = tf.gather(self._splits, buckets)
        places = tf.ragged.range(starts, tf.gather(self._splits, buckets + 1)).flat_values
        sums = tf.math.unsorted_segment_sum(tf.gather(self._scores, places), tf.gather(self._rows, places), self.size)
        return tf.minimum(tf.math.divide_no_nan(sums, tf.reduce_sum(tf.gather(self._weights, buckets))), 1.0)

    def new_items(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What further items would have in the index.

        Args:
            texts: String [n], their texts.

        Returns:
            Buckets of the n-grams int32 [n, G], each once, and BM25 scores float32 [n, G]; 0 pads.
        """
        grams = self.grams(texts)
        count = tf.size(texts)
        pairs = tf.unique_with_counts(tf.cast(grams.lines, tf.int64) * self._buckets + tf.cast(grams.buckets, tf.int64))
        # Distinct pairs come in the order of the lines, as the n-grams do.
        lines = tf.cast(pairs.y // self._buckets, tf.int32)
        buckets = tf.cast(pairs.y % self._buckets, tf.int32)
        lengths = tf.cast(tf.math.bincount(grams.lines, minlength=count, maxlength=count), tf.float32)
        norm = _K1 * (1.0 - _B + _B * lengths / self.statistics.mean_length)
        times = tf.cast(pairs.count, tf.float32)
        scores = tf.gather(self._weights, buckets) * (times * (_K1 + 1.0) / (times + tf.gather(norm, lines)))
        rows = tf.math.bincount(lines, minlength=count, maxlength=count)
        return (
            tf.RaggedTensor.from_row_lengths(buckets, rows, validate=False).to_tensor(),
            tf.RaggedTensor.from_row_lengths(scores, rows, validate=False).to_tensor(),
        )

    def weights(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What queries look for: buckets int32 [n, G] of string [n], repeats included, -1 pads, and their weights."""
        grams = self.grams(texts)
        count = tf.size(texts)
        rows = tf.math.bincount(grams.lines, minlength=count, maxlength=count)
        buckets = tf.RaggedTensor.from_row_lengths(grams.buckets, rows, validate=False).to_tensor(-1)
        return buckets, tf.where(buckets >= 0, tf.gather(self._weights, tf.maximum(buckets, 0)), 0.0)

    def _postings(self, texts: Sequence[str]) -> tuple[_Ints, _Ints, npt.NDArray[np.float32]]:
        """Distinct n-grams of the texts, by the operations also used for queries.

        Returns:
            Buckets int32 [E] in ascending order, each one's items int32 [E] in theirs, and float32 [E] how often the
            bucket's n-grams are in the item's text.
        """
        # Some bytes each: a million titles have tens of millions of n-grams.
        buckets, rows = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        counts = [np.zeros(0, np.float32)]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            grams = self.grams(tf.constant(list(texts[start : start + _TEXTS_AT_ONCE]), tf.string))
            pairs = grams.lines.numpy().astype(np.int64) * self._buckets + grams.buckets.numpy()
            distinct, times = np.unique(pairs, return_counts=True)
            lines, found = np.divmod(distinct, self._buckets)
            buckets.append(found.astype(np.int32))
            rows.append((lines + start).astype(np.int32))
            counts.append(times.astype(np.float32))
        everywhere = np.concatenate(buckets)
        order = np.argsort(everywhere, kind="stable")
        return everywhere[order], np.concatenate(rows)[order], np.concatenate(counts)[order]


def _row_ids(ragged: tf.RaggedTensor) -> tf.Tensor:
    """The row of each value, int32 [total]: like ``ragged.value_rowids()``, which takes eight times as long."""
    ends = tf.cast(ragged.row_splits[1:], tf.int32)
    places = tf.range(tf.size(ragged.flat_values))
    return tf.raw_ops.UpperBound(sorted_inputs=ends[tf.newaxis], values=places[tf.newaxis])[0]


@functools.cache
def _folded_characters() -> npt.NDArray[np.int32]:
    """The folding of each code point, int32 [0x40000]: a letter or digit, negative for a syllable; 0 separates words.

    A letter is folded to the first one of its compatibility decomposition in lower case.
    """
    table = np.zeros(_CODE_POINTS, np.int32)
    for code in range(_CODE_POINTS):
        character = chr(code)
        if unicodedata.category(character)[0] in "LNM":
            letter = ord(unicodedata.normalize("NFKC", character)[:1])
            # Hangul syllables are kept whole; kana lose their dots.
            if _within(letter, _SYLLABIC):
                base = unicodedata.normalize("NFD", chr(letter))[:1] if _within(letter, _KANA) else chr(letter)
                table[code] = -ord(base)
            else:
                folded = unicodedata.normalize("NFKD", character).casefold()[:1]
                table[code] = ord(folded) if folded and ord(folded) < _CODE_POINTS else code
    for first, last in _OPTIONAL_MARKS:
        table[first : last + 1] = _DROPPED
    return table


def _within(code: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= code <= last for first, last in ranges)
