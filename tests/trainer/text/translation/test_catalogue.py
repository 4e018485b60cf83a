"""Translating a catalogue: which texts, once each, nothing lost."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.trainer.text.translation.conftest import Endpoint, completion
from trainer.errors import BabelrecError
from trainer.text.preparation import prepare_labels, prepare_texts
from trainer.text.settings import ApertiumConfig, TextConfig, TranslationConfig
from trainer.text.translation.base import Translator
from trainer.text.translation.catalogue import make_translator, translate_catalogue, translate_texts
from trainer.text.translation.store import TranslationStore


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Reversing(Translator):
    """Reverses texts, two at a time; stops where requested."""

    def __init__(self, name: str = "reversing", stop_at: str | None = None) -> None:
        self.name = name
        self.stop_at = stop_at
        self.seen: list[str] = []

    def offers(self, source: str, target: str) -> bool:
        return source != "ko"

    def identity(self, source: str, target: str) -> str:
        return self.name

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[list[str]]:
        for begin in range(0, len(texts), 2):
            if self.stop_at in texts[begin : begin + 2]:
                raise KeyboardInterrupt
            self.seen += texts[begin : begin + 2]
            yield [text[::-1] for text in texts[begin : begin + 2]]


TEXTS = ["uno", "", "dos", "uno", "  ", "สวัสดี", "🎉x", "قصة", "\ud83d!", "한글"]
TURNED = ["onu", "", "sod", "onu", "  ", "สวัสดี"[::-1], "x🎉", "قصة"[::-1], "!\ufffd", "글한"]


def test_each_distinct_text_is_translated_once(tmp_path: Path) -> None:
    store = TranslationStore(tmp_path / "t.sqlite")
    first = Reversing()
    assert translate_texts(TEXTS, "es", "en", first, store, progress=False) == TURNED
    assert first.seen == ["uno", "dos", "สวัสดี", "🎉x", "قصة", "\ufffd!", "한글"]
    again = Reversing()
    assert translate_texts(TEXTS[::-1], "es", "en", again, store, progress=False) == TURNED[::-1]
    assert again.seen == []


def test_translators_languages_and_targets_share_nothing(tmp_path: Path) -> None:
    store = TranslationStore(tmp_path / "t.sqlite")
    for name, source, target in [("a", "es", "en"), ("b", "es", "en"), ("a", "fr", "en"), ("a", "es", "fr")]:
        translator = Reversing(name)
        translate_texts(["uno"], source, target, translator, store, progress=False)
        assert translator.seen == ["uno"], (name, source, target)


def test_an_interrupted_call_resumes_where_it_stopped(tmp_path: Path) -> None:
    store = TranslationStore(tmp_path / "t.sqlite")
    with pytest.raises(KeyboardInterrupt):
        translate_texts(["a1", "b2", "c3", "d4", "e5"], "es", "en", Reversing(stop_at="e5"), store, progress=False)
    later = Reversing()
    assert translate_texts(["e5", "a1", "d4"], "es", "en", later, store, progress=False) == ["5e", "1a", "4d"]
    assert later.seen == ["e5"]


def test_no_texts_and_no_file(tmp_path: Path) -> None:
    store = TranslationStore(tmp_path / "t.sqlite")
    assert translate_texts([], "es", "en", Reversing(), store) == []
    assert translate_texts(["", " "], "es", "en", Reversing(), store) == ["", " "]
    assert not (tmp_path / "t.sqlite").exists()


def test_a_damaged_store_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(BabelrecError, match=r"t\.sqlite can't be used.*Remove the file"):
        translate_texts(["uno"], "es", "en", Reversing(), TranslationStore(path), progress=False)


def test_two_handles_write_one_store(tmp_path: Path) -> None:
    one, other = TranslationStore(tmp_path / "t.sqlite"), TranslationStore(tmp_path / "t.sqlite")
    one.add("t", "es", "en", {"a": "1"})
    other.add("t", "es", "en", {"b": "2", "a": "3"})
    many = {str(number): "x" for number in range(1_500)}
    one.add("t", "es", "en", many)
    assert other.look_up("t", "es", "en", ["a", "b", "c", *many]) == {"a": "3", "b": "2", **many}


def test_a_catalogue_by_a_live_endpoint_is_paid_for_once(endpoint: Endpoint) -> None:
    config = TranslationConfig(translator="openai", target="en", openai=endpoint.config(batch_size=2))
    texts = ["casa", "house", "집", "casa", "maison", "?", "haus"]
    languages = ["es", "en", "ko", "es", "fr", "und", "en-GB"]
    expected = ["<CASA>", "house", "<집>", "<CASA>", "<MAISON>", "?", "haus"]
    now = ["en", "en", "en", "en", "en", "und", "en-GB"]
    assert translate_catalogue(texts, languages, config, progress=False) == (expected, now)
    asked = len(endpoint.requests)
    assert translate_catalogue(texts, languages, config, progress=False) == (expected, now)
    assert len(endpoint.requests) == asked == 3


def test_a_budget_keeps_what_was_paid_for(endpoint: Endpoint) -> None:
    def config(requests: int) -> TranslationConfig:
        return TranslationConfig(translator="openai", openai=endpoint.config(batch_size=1, max_requests=requests))

    texts = ["uno", "dos", "tres"]
    with pytest.raises(BabelrecError, match="Translations so far are kept"):
        translate_catalogue(texts, ["es"] * 3, config(2), progress=False)
    done, _ = translate_catalogue(texts, ["es"] * 3, config(1), progress=False)
    assert done == ["<UNO>", "<DOS>", "<TRES>"]
    assert endpoint.texts == [["uno"], ["dos"], ["tres"]]


def test_sources_choose_the_languages(endpoint: Endpoint) -> None:
    config = TranslationConfig(translator="openai", sources=["es", "PT_br"], openai=endpoint.config())
    texts, languages = ["a", "b", "c", "d", "e"], ["es", "es-MX", "fr", "pt-BR", "pt"]
    assert translate_catalogue(texts, languages, config, progress=False)[0] == ["<A>", "<B>", "c", "<D>", "e"]


def test_no_translator_is_an_error() -> None:
    with pytest.raises(BabelrecError, match="translator is not set"):
        make_translator(TranslationConfig())


@pytest.mark.usefixtures("apertium")
def test_a_source_without_a_route_is_an_error() -> None:
    config = TranslationConfig(translator="apertium", sources=["es", "ko"], apertium=ApertiumConfig())
    with pytest.raises(BabelrecError, match="no pair from 'ko' to 'en'"):
        translate_catalogue(["집"], ["ko"], config, progress=False)


@pytest.mark.usefixtures("apertium")
def test_languages_without_a_pair_stay_where_none_is_asked_for() -> None:
    text = TextConfig(translation=TranslationConfig(translator="apertium"), preprocessing={"en": ["casefold"]})
    texts = ["El perro rojo", "빨간 개", "", "THE CAT"]
    assert prepare_texts(texts, ["es", "ko", "es", "en"], text) == ["the red dog", "빨간 개", "", "the cat"]
    assert prepare_labels(["Comedia"], text) == ["Comedia"]


def test_nothing_switched_on_costs_nothing() -> None:
    texts = ["a"]
    assert prepare_texts(texts, ["es"], TextConfig()) is texts


def test_answers_with_lone_surrogates_are_stored(endpoint: Endpoint) -> None:
    endpoint.replies = [completion(json.dumps(["\ud83d!"]))]
    config = TranslationConfig(translator="openai", openai=endpoint.config())
    for _ in range(2):
        assert translate_catalogue(["x"], ["es"], config, progress=False)[0] == ["\ufffd!"]
