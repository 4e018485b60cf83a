"""Alignment of translations in a trained model's spaces: accuracy@1 as in P4, on given pairs."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.evaluation.protocols.parallel_titles import nearest_is_translation
from trainer.models.assembly import text_inputs
from trainer.models.recommender import Recommender
from trainer.text.alignment import TextPairs
from trainer.text.settings import TextConfig

_BLOCK = 1024


def aligned_titles(model: Recommender, vocabulary: Vocabulary, text: TextConfig, pairs: TextPairs) -> dict[str, float]:
    """Accuracy@1 of each direction in three spaces.

    ``encoder`` is the text encoder's space, ``converted`` that after language conversion to the
    pivot, ``shared`` that of queries and items (the text's projection alone, without other features).

    Args:
        model: Trained or not.
        vocabulary: The model's vocabulary.
        text: Settings of the text encoder.
        pairs: The pairs to evaluate; each direction is measured among its own language pair's texts.

    Returns:
        Such as ``{"shared/accuracy@1 ko→en": 0.4, "pairs ko-en": 198}``.
    """
    tower = model.candidate_tower
    index = index_of(vocabulary.languages)
    found: dict[str, float] = {}
    for tags in pairs.language_pairs():
        sides = pairs.of_languages(*tags)
        vectors: dict[str, list[npt.NDArray[np.float32]]] = {}
        for tag, texts in zip(tags, sides, strict=True):
            inputs = text_inputs(texts, [tag] * len(texts), text)
            parts: dict[str, list[tf.Tensor]] = {}
            for start in range(0, len(texts), _BLOCK):
                raw = tower.text_vectors(inputs[start : start + _BLOCK])
                converted = tower.convert(raw, tf.fill(tf.shape(raw)[:1], index.get(tag, UNKNOWN)))
                spaces = {"encoder": raw, "converted": converted, "shared": tower.embed_text(converted)}
                for name, part in spaces.items():
                    parts.setdefault(name, []).append(part)
            for name, blocks in parts.items():
                vectors.setdefault(name, []).append(tf.concat(blocks, axis=0).numpy())
        one, two = tags
        for name, (first, second) in vectors.items():
            forth = nearest_is_translation(first, second, tuple(sides[1]))
            back = nearest_is_translation(second, first, tuple(sides[0]))
            found[f"{name}/accuracy@1 {one}→{two}"] = float(forth.mean())
            found[f"{name}/accuracy@1 {two}→{one}"] = float(back.mean())
        found[f"pairs {one}-{two}"] = len(sides[0])
    return found
