"""The n-gram index against an independent BM25, and the differences it ignores."""

import math
import unicodedata
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from trainer.text.lexical import LexicalIndex

_TEXTS = [
    "Trail running shoes",
    "Running socks, three pairs",
    "Café crème cups",
    "캠핑 텐트 4인용",
    "头戴式耳机",
    "سماعات رأس لاسلكية",
    "เต็นท์แคมป์ปิ้ง",
    "XR-2000 drone",
    "",
    "🎉🎉🎉",
]


def _grams(text: str) -> list[str]:
    """Trigrams of the words between blanks; of Han, kana and Hangul, each character with the next."""
    folded = " "
    for character in text:
        first = unicodedata.normalize("NFKD", character).casefold()[:1]
        if unicodedata.combining(character) and unicodedata.category(character) == "Mn" and ord(character) < 0x700:
            continue
        letter = unicodedata.category(character)[0] in "LNM"
        folded += (character if _syllabic(character) else first) if letter else " "
    folded += " "
    grams = []
    for before, middle, after in zip(folded, folded[1:], folded[2:], strict=False):
        if middle != " ":
            grams.append(("" if _syllabic(middle) else before) + middle + after)
    return grams


def _syllabic(character: str) -> bool:
    return any(name in unicodedata.name(character, "") for name in ("CJK UNIFIED", "HANGUL SYLLABLE", "KANA LETTER"))


def _bm25(texts: list[str], query: str) -> list[float]:
    """Robertson and Zaragoza's sum with k1 = 1.2 and b = 0.75 over the query's sum of weights."""
    documents = [Counter(_grams(text)) for text in texts]
    mean = sum(sum(document.values()) for document in documents) / len(documents)

    def weight(gram: str) -> float:
        spread = sum(gram in document for document in documents)
        return math.log(1.0 + (len(texts) - spread + 0.5) / (spread + 0.5))

    asked = _grams(query)
    found = []
    for document in documents:
        norm = 1.2 * (0.25 + 0.75 * sum(document.values()) / mean)
        total = sum(weight(gram) * document[gram] * 2.2 / (document[gram] + norm) for gram in asked if gram in document)
        found.append(min(1.0, total / sum(map(weight, asked))) if asked else 0.0)
    return found


@pytest.mark.parametrize(
    "query",
    [
        "running shoes",
        "shose runnning",
        "RUNNING",
        "cafe creme",
        "텐트",
        "耳机",
        "سماعات",
        "เต็นท์",
        "xr2000",
        "xr-2000",
        "a",
    ],
)
def test_scores_are_bm25_of_the_ngrams(query: str) -> None:
    scores = LexicalIndex(_TEXTS)(tf.constant([query]))[0].numpy()
    np.testing.assert_allclose(scores, _bm25(_TEXTS, query), atol=1e-5)


@pytest.mark.parametrize("query", ["", "   ", "!?", "\u200b", "🎉"])
def test_a_query_without_letters_finds_nothing(query: str) -> None:
    assert not LexicalIndex(_TEXTS)(tf.constant([query])).numpy().any()


def test_case_width_and_accents_make_no_difference() -> None:
    index = LexicalIndex(_TEXTS)
    plain, other = (index(tf.constant(texts)).numpy() for texts in (["running cafe"], ["ＲＵＮＮＩＮＧ  CAFÉ"]))
    np.testing.assert_allclose(plain, other)
    decomposed = index(tf.constant([unicodedata.normalize("NFD", "crème")])).numpy()
    np.testing.assert_allclose(index(tf.constant(["creme"])).numpy(), decomposed)


@pytest.mark.parametrize(
    ("plain", "other"),
    [("カメラ", "ｶﾒﾗ"), ("バッグ", "バッグ"), ("豈", "\uf900"), ("হয়", "হ\u09df"), ("Ⅳ", "ⅳ")],
)
def test_other_forms_of_the_same_letters_are_found(plain: str, other: str) -> None:
    index = LexicalIndex([plain, "something else"])
    np.testing.assert_allclose(index(tf.constant([plain])).numpy(), index(tf.constant([other])).numpy())
    assert index(tf.constant([other])).numpy()[0].argmax() == 0


def test_lines_of_a_batch_are_scored_each_by_itself() -> None:
    index = LexicalIndex(_TEXTS)
    queries = ["", "running", "", "캠핑 텐트", "tent", ""]
    together = index(tf.constant(queries)).numpy()
    alone = np.concatenate([index(tf.constant([query])).numpy() for query in queries])
    np.testing.assert_array_equal(together, alone)
    assert together.shape == (6, len(_TEXTS))
    assert index(tf.constant([], tf.string)).shape == (0, len(_TEXTS))


def test_hostile_text_is_cut_and_read() -> None:
    index = LexicalIndex(_TEXTS)
    scores = index(tf.constant([b"\xff\xfe running \xc3(", "running " * 100_000, "\x00\x01", "\U0010ffff"])).numpy()
    assert np.isfinite(scores).all()
    assert all(set(np.argsort(-line)[:2]) == {0, 1} for line in scores[:2])
    assert not scores[2:].any()


def test_an_empty_catalogue_has_no_scores() -> None:
    assert LexicalIndex([])(tf.constant(["tent"])).shape == (1, 0)


def test_a_mistyped_title_is_still_nearest_to_its_own() -> None:
    titles = [f"{brand} {kind}" for brand in ("Aldora", "Brennik", "Calvero") for kind in ("kettle", "kayak", "guitar")]
    index = LexicalIndex(titles)
    mistyped = [title[:4] + "x" + title[5:] for title in titles]
    assert index(tf.constant(mistyped)).numpy().argmax(axis=1).tolist() == list(range(len(titles)))
