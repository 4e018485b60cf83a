"""Preprocessing: each step against Python's own Unicode data, languages, and the graph against the catalogue."""

import logging
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.text.conftest import SENTENCES, toy_vectors
from trainer.config.loading import parse_config
from trainer.config.settings import Config
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.parallel_titles import ParallelTitles, evaluate_parallel_titles
from trainer.text.preparation import prepare_labels, prepare_texts
from trainer.text.preprocessing import Preprocessor, check_steps, preprocess, query_preprocessor
from trainer.text.settings import PreprocessingStep, TextConfig, TranslationConfig
from trainer.text.vectors import encode_texts

ODD = [
    "",
    " ",
    "\u3000",
    "🎉👩‍👩‍👧 family",
    "長い" * 20_000,
    "ｶﾞﾝﾀﾞﾑ ＡＢＣ１２３",
    "\ud83d!",
    "a\x00b",
    "\u200bx\u202ey\ufeff",
]
TEXTS = [*SENTENCES, *ODD]
GRAPH_STEPS: tuple[PreprocessingStep, ...] = (
    "nfc",
    "nfkc",
    "casefold",
    "width",
    "controls",
    "numbers",
    "stop_words",
)


def one(text: str, *steps: PreprocessingStep, language: str = "en") -> str:
    return preprocess([text], [language], {"*": list(steps)})[0]


@pytest.mark.parametrize(("step", "form"), [("nfc", "NFC"), ("nfkc", "NFKC")])
def test_normal_forms_are_unicodes(step: PreprocessingStep, form: str) -> None:
    clean = [text.replace("\ud83d", "\ufffd") for text in TEXTS]
    assert preprocess(TEXTS, ["und"] * len(TEXTS), {"*": [step]}) == [
        unicodedata.normalize(form, text)  # type: ignore[arg-type]
        for text in clean
    ]


# Blocks as old as the oldest Unicode data in use.
LETTERS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cn", "Co", "Cc", "Cf", "Mn"]))


@settings(max_examples=30)
@given(st.lists(LETTERS, min_size=20, max_size=40))
def test_case_folding_goes_by_unicodes_definition(texts: list[str]) -> None:
    """NFKC_Casefold (Unicode 3.13, D147) of strings without ignorable characters, from Python's parts."""

    def expected(text: str) -> str:
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
        return unicodedata.normalize("NFKC", text.casefold())

    # Hangul fillers and a few more are ignorable letters.
    ignorable = re.compile("[\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2065]")
    texts = [ignorable.sub("", text) for text in texts]
    assert preprocess(texts, ["und"] * len(texts), {"*": ["casefold"]}) == [expected(text) for text in texts]


@pytest.mark.parametrize(
    ("given_text", "step", "expected"),
    [
        ("ＦＵＬＬ　ｗｉｄｅ！ ｱｲｳ", "width", "FULL wide! アイウ"),
        ("한글 中文 ไทย ½ ﬁ", "width", "한글 中文 ไทย ½ ﬁ"),
        ("a\x00b\u200bc\u202ed\xade\ufefff", "controls", "abcdef"),
        ("  a \t\r\n b\u3000\u2003c  ", "controls", "a b c"),
        ("👩‍👧 می‌خواهم", "controls", "👩‍👧 می‌خواهم"),
        ("1995 and 1,234.5 or ١٢٣٫٤, ๑๒, 七 ½", "numbers", "0 and 0 or 0, 0, 七 ½"),
        ("x2y 3-4 5'000", "numbers", "x0y 0-0 0"),
        ("STRASSE ß Σς ＡＢＣ", "casefold", "strasse ss σσ abc"),
    ],
)
def test_steps_by_hand(given_text: str, step: PreprocessingStep, expected: str) -> None:
    assert one(given_text, step) == expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("The Lord of the Rings", "en", "Lord Rings"),
        ('"The" house,  (of) cards!', "en", "house, cards!"),
        ("El perro de LOS gatos", "es-MX", "perro gatos"),
        ("в лесу", "ru", "лесу"),
        ("It", "en", "It"),
        ("of the", "en", "of the"),
        ("", "en", ""),
        ("The 的 电影", "zh", "The 的 电影"),
        ("The house", "und", "The house"),
    ],
)
def test_stop_words(text: str, language: str, expected: str) -> None:
    assert one(text, "stop_words", language=language) == expected


@pytest.mark.parametrize(
    ("text", "step", "language", "expected"),
    [
        ("(Running) dogs!", "stem", "en", "(run) dog!"),
        ("gatos corriendo", "stem", "es", "gat corr"),
        ("The Dog", "stem", "en", "The Dog"),
        ("книгами", "stem", "ru", "книг"),
        ("한국어 제목", "stem", "ko", "한국어 제목"),
        ("dogs ran", "lemmatize", "en", "dog run"),
        ("gatos", "lemmatize", "es", "gato"),
        ("猫たち 🎉 !?", "lemmatize", "ja", "猫たち 🎉 !?"),
    ],
)
def test_stems_and_lemmas(text: str, step: PreprocessingStep, language: str, expected: str) -> None:
    assert one(text, step, language=language) == expected


def test_every_step_takes_every_text() -> None:
    for step in (*GRAPH_STEPS, "stem", "lemmatize"):
        for language in ("en", "ko", "ar", "th", "zh", "und"):
            result = preprocess(TEXTS, [language] * len(TEXTS), {"*": [step]})
            assert len(result) == len(TEXTS)
            assert all("\ud83d" not in text for text in result), step
    assert preprocess([], [], {"*": ["nfc", "stem"]}) == []


def test_steps_go_in_order_and_by_language() -> None:
    steps: dict[str, list[PreprocessingStep]] = {
        "*": ["casefold"],
        "en": ["stop_words", "stem", "casefold", "numbers"],
        "zh-TW": [],
    }
    texts = ["The Dogs 12", "The DOGS 12", "The DOGS", "ＴＨＥ DOGS", "The DOGS"]
    assert preprocess(texts, ["en", "en-GB", "de", "zh-TW", "zh"], steps) == [
        "dog 0",
        "dog 0",
        "the dogs",
        "ＴＨＥ DOGS",
        "the dogs",
    ]


def test_a_step_that_a_named_language_lacks_is_an_error() -> None:
    with pytest.raises(BabelrecError, match=r"text\.preprocessing\.zh has 'stop_words'.*for af, ar"):
        check_steps({"zh": ["stop_words"]})
    with pytest.raises(BabelrecError, match=r"ko has 'stem'"):
        preprocess(["x"], ["en"], {"ko": ["stem"]})
    with pytest.raises(BabelrecError, match=r"th has 'lemmatize'"):
        Preprocessor({"th": ["lemmatize"]})


def test_settings_take_a_list_or_a_map() -> None:
    def of(value: object) -> dict[str, list[PreprocessingStep]]:
        return parse_config({"text": {"preprocessing": value}}, "here").text.preprocessing

    assert of(["nfkc", "casefold"]) == {"*": ["nfkc", "casefold"]}
    assert of({"en": ["stem"]}) == {"en": ["stem"]}
    assert Config().text.preprocessing == {}
    with pytest.raises(BabelrecError, match=r"here: text\.preprocessing"):
        of(["stemming"])


@pytest.mark.parametrize("step", GRAPH_STEPS)
def test_the_saved_graph_does_what_is_done_to_the_catalogue(step: PreprocessingStep, tmp_path: Path) -> None:
    languages = ["en", "es", "ko", "th", "", "ar-EG", "zh", "und"] * 4
    texts, languages = TEXTS, languages[: len(TEXTS)]
    module = Preprocessor({"*": [step]})
    module.serve = tf.function(module.__call__, input_signature=[tf.TensorSpec([None], tf.string)] * 2)
    tf.saved_model.save(module, str(tmp_path))
    raw = [text.replace("\ud83d", "\ufffd") for text in texts]
    served = tf.saved_model.load(str(tmp_path)).serve(tf.constant(raw), tf.constant(languages))
    assert [text.decode() for text in served.numpy()] == preprocess(texts, languages, {"*": [step]})


def test_the_graph_goes_by_language_as_the_catalogue_does() -> None:
    steps: dict[str, list[PreprocessingStep]] = {"en": ["stop_words", "casefold"], "es": ["numbers"], "*": ["width"]}
    texts = ["The DOG 12", "El PERRO 12", "ＤＯＧ １２", "The DOG", "The ＤＯＧ"]
    languages = ["EN-us", "es", "de", "en", ""]
    module = Preprocessor(steps)
    graph = tf.function(module.__call__)(tf.constant(texts), tf.constant(languages))
    assert [text.decode() for text in graph.numpy()] == preprocess(texts, languages, steps)
    assert preprocess(texts, languages, steps) == ["dog 12", "El PERRO 0", "DOG 12", "dog", "The DOG"]
    assert module(tf.constant(["The ＤＯＧ"])).numpy().tolist() == [b"The DOG"]
    assert module(tf.constant([], tf.string), tf.constant([], tf.string)).shape == [0]


def test_broken_bytes_pass_through_the_graph() -> None:
    module = Preprocessor({"*": list(GRAPH_STEPS)})
    (result,) = module(tf.constant([b"\xff\xfeHOUSE 12"]), tf.constant(["en"])).numpy()
    assert b"house 0" in result


def test_queries_get_what_the_graph_can_do(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert query_preprocessor(TextConfig()) is None
        module = query_preprocessor(TextConfig(preprocessing={"*": ["casefold"]}))
    assert caplog.text == ""
    assert module is not None
    with caplog.at_level(logging.WARNING):
        module = query_preprocessor(TextConfig(preprocessing={"en": ["casefold", "stem"], "de": ["lemmatize"]}))
    assert "lemmatize and stem, which no TensorFlow operation supports" in caplog.text
    assert module is not None
    assert module(tf.constant(["DOGS"]), tf.constant(["en"])).numpy().tolist() == [b"dogs"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        stem_only = TextConfig(
            preprocessing={"en": ["stem"]}, translation=TranslationConfig(translator="apertium", target="es")
        )
        assert query_preprocessor(stem_only) is None
    assert "an exported graph can't call a translator" in caplog.text


def test_vectors_are_those_of_the_prepared_text(
    toy_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    plain = TextConfig(encoder=toy_encoder)
    folded = TextConfig(encoder=toy_encoder, preprocessing={"*": ["casefold"], "en": ["stop_words", "casefold"]})
    texts, languages = ["THE HOUSE", "DAS HAUS"], ["en", "de"]
    for config, expected in ((plain, texts), (folded, ["house", "das haus"]), (plain, texts)):
        prepared = prepare_texts(texts, languages, config)
        assert prepared == expected
        np.testing.assert_array_equal(encode_texts(prepared, config, progress=False), toy_vectors(expected))
    assert prepare_labels(["THE DRAMA"], folded) == ["the drama"]


def test_parallel_titles_are_prepared(toy_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    # The toy encoder looks at length and first byte: equal only after the number is masked and the case folded.
    titles = ParallelTitles("t", ("en", "de"), ("Aa 1995", "bbbb", "cc"), ("aa 7", "BBBB", "CC"))
    plain = evaluate_parallel_titles(titles, TextConfig(encoder=toy_encoder), progress=False, resamples=10)
    config = TextConfig(encoder=toy_encoder, preprocessing={"*": ["casefold", "numbers"]})
    better = evaluate_parallel_titles(titles, config, progress=False, resamples=10)
    assert plain.metrics["accuracy@1 en→de"].value < 1.0
    assert better.metrics["accuracy@1 en→de"].value == better.metrics["accuracy@1 de→en"].value == 1.0
