"""Apertium itself, if installed: the stream, marks, markup, routes, faults."""

import stat
from pathlib import Path

import pytest

from trainer.errors import BabelrecError
from trainer.text.settings import ApertiumConfig
from trainer.text.translation.apertium import Apertium


def translate(translator: Apertium, texts: list[str], source: str = "en", target: str = "es") -> list[str]:
    return [text for batch in translator.translate(texts, source, target) for text in batch]


@pytest.mark.usefixtures("apertium")
def test_english_becomes_spanish_and_comes_back() -> None:
    translator = Apertium(ApertiumConfig())
    assert translate(translator, ["The red house", "I see a dog. And a cat."]) == [
        "La casa roja",
        "Veo un perro. Y un gato.",
    ]
    # This pair begins each text with a capital.
    assert translate(translator, ["la casa roja"], "es", "en")[0].lower() == "the red house"


@pytest.mark.usefixtures("apertium")
def test_texts_do_not_run_into_each_other() -> None:
    # Each ends in the middle of something.
    texts = ["the red", "house", "I do not"]
    alone = [translate(Apertium(ApertiumConfig()), [text])[0] for text in texts]
    assert translate(Apertium(ApertiumConfig()), texts) == alone
    assert translate(Apertium(ApertiumConfig(batch_size=2)), texts) == alone


@pytest.mark.usefixtures("apertium")
def test_unknown_words_stay_and_can_be_marked() -> None:
    assert translate(Apertium(ApertiumConfig()), ["the blorkish house"])[0].lower().split()[1:] == ["blorkish", "casa"]
    marked = translate(Apertium(ApertiumConfig(), mark_unknown=True), ["the blorkish house"])
    assert marked[0].count("*") == 1
    assert "*blorkish" in marked[0]


UNTRANSLATABLE = [
    "中文标题",
    "한국어 제목",
    "สวัสดีชาวโลก",
    "قصة لعبة",
    "🎉👩‍👩‍👧",
    "^1$ [2] {3} <4> @5 / \\ ~ * \\[ ]]",
    "1\n2\r\n\t3",
    "[]",
    "\\",
    "1995",
]


@pytest.mark.usefixtures("apertium")
def test_what_has_no_translation_stays_to_the_last_character() -> None:
    between = [part for text in UNTRANSLATABLE for part in (text, "the house")]
    result = translate(Apertium(ApertiumConfig()), between)
    assert result[::2] == UNTRANSLATABLE
    assert {text.lower() for text in result[1::2]} == {"la casa"}


@pytest.mark.usefixtures("apertium")
def test_very_long_texts() -> None:
    (result,) = translate(Apertium(ApertiumConfig()), ["the house. " * 4_000])
    assert result.lower().count("la casa.") == 4_000


@pytest.mark.usefixtures("apertium")
def test_markup_stays_around_the_translated_words() -> None:
    translator = Apertium(ApertiumConfig(markup="html"))
    given = "<p class='a>b'>The house &amp; the dog</p><!-- the cat --><br/>5 &lt; 6"
    assert translate(translator, [given]) == ["<p class='a>b'>La casa &amp; el perro</p><!-- the cat --><br/>5 &lt; 6"]


def test_routes(apertium: set[str]) -> None:
    translator = Apertium(ApertiumConfig())
    assert translator.route("en", "es") == ["eng-spa"]
    assert translator.route("en-GB", "es-MX") == ["eng-spa"]
    assert translator.route("fr", "en") == ["fr-es", "spa-eng"]
    assert translator.offers("fr", "en")
    assert not Apertium(ApertiumConfig(pivots=[])).offers("fr", "en")
    assert not translator.offers("ko", "en")
    if "spa-eng_US" in apertium:
        assert translator.route("es", "en-US") == ["spa-eng_US"]
    assert translate(translator, ["le chien rouge"], "fr", "en")[0].lower() == "the red dog"


@pytest.mark.usefixtures("apertium")
def test_a_language_without_a_pair_is_an_error() -> None:
    with pytest.raises(BabelrecError, match=r"no pair from 'ko' to 'en', nor a way through es or ca.*en-es.*apt-get"):
        translate(Apertium(ApertiumConfig()), ["한국어"], "ko", "en")


@pytest.mark.usefixtures("apertium")
def test_identity_names_version_pair_and_form() -> None:
    one = Apertium(ApertiumConfig()).identity("en", "es")
    assert one.startswith("Apertium 3.")
    assert "eng-spa" in one
    others = {
        Apertium(ApertiumConfig()).identity("es", "en"),
        Apertium(ApertiumConfig(markup="html")).identity("en", "es"),
        Apertium(ApertiumConfig(), mark_unknown=True).identity("en", "es"),
    }
    assert len(others | {one}) == 4


def test_a_missing_command_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match=r"no command '.*nowhere'.*apt-get install apertium"):
        Apertium(ApertiumConfig(command=str(tmp_path / "nowhere")))


def program(path: Path, script: str) -> ApertiumConfig:
    """A fake Apertium command that lists eng-spa and then misbehaves."""
    path.write_text(f'#!/bin/sh\ncase "$*" in *-l*) echo eng-spa; exit;; *-V*) echo A 1; exit;; esac\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return ApertiumConfig(command=str(path), timeout=1.0)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("cat >/dev/null; echo 'no such dictionary' >&2; exit 3", r"failed \(3\): no such dictionary"),
        ("cat >/dev/null; printf 'uno\\0'", "returned 1 of 2 texts"),
        ("cat >/dev/null; printf 'uno\\0dos\\0tres\\0'", r"returned 2 of 2 texts and 'tres' in addition"),
        ("exec sleep 30", "took longer than 1 s"),
    ],
)
def test_a_broken_installation_is_an_error(tmp_path: Path, script: str, says: str) -> None:
    translator = Apertium(program(tmp_path / "apertium", script))
    with pytest.raises(BabelrecError, match=says):
        translate(translator, ["one", "two"])
