"""Language tags and detection."""

from pathlib import Path

import pytest

from trainer.data.languages import DETECTED, LanguageError, detect, normalise


@pytest.mark.parametrize(
    ("tag", "canonical"),
    [
        ("en", "en"),
        ("EN_us", "en-US"),
        ("pt-br", "pt-BR"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("iw", "he"),
        ("cmn", "zh"),
        ("zho", "zh"),
        ("swh", "sw"),
        ("jpn", "ja"),
        (" ko ", "ko"),
        ("und", "und"),
    ],
)
def test_tags_get_their_canonical_form(tag: str, canonical: str) -> None:
    assert normalise(tag) == canonical
    assert normalise(canonical) == canonical


@pytest.mark.parametrize("tag", ["", "  ", "english", "jp", "xx", "e", "한국어", "en-USA1234567890"])
def test_a_bad_tag_is_named_with_a_remedy(tag: str) -> None:
    with pytest.raises(LanguageError, match="Remedy: write a BCP 47 tag"):
        normalise(tag)


def test_all_detected_tags_are_canonical() -> None:
    assert [normalise(tag) for tag in DETECTED] == list(DETECTED)


def test_detection_keeps_order_and_repetitions() -> None:
    texts = [
        "오래된 책을 읽는 밤",
        "The weather will be nice tomorrow in the mountains",
        "",
        "สวัสดีชาวโลก",
        "オールド・ボーイの物語",
        "The weather will be nice tomorrow in the mountains",
        "1941",
        "🎬🎬",
        "مرحبا بالعالم",
        "El laberinto de las aceitunas y los secretos de mi abuela",
        "昨天天气很好, 我们去了公园",
        "Вчера была хорошая погода",
    ]
    wanted = ["ko", "en", "und", "th", "ja", "en", "und", "und", "ar", "es", "zh", "ru"]
    assert detect(texts) == wanted
    assert detect([]) == []


def test_the_collection_helps_its_short_titles() -> None:
    """Alone these names fit other languages better; among English titles they are taken as English."""
    short = ["Babe", "Casino", "Clueless", "Othello", "Restoration", "Powder", "Balto"]
    english = [
        "The Return of the King",
        "How to Make an American Quilt",
        "When Night Is Falling",
        "Two If by Sea",
    ]
    alone = sum(detect([title]) == ["en"] for title in short)
    together = sum(tag == "en" for tag in detect(short + english * 5)[: len(short)])
    assert together > alone


def test_a_rare_language_is_not_swallowed() -> None:
    english = [f"The {n} secrets of the old house by the river" for n in range(200)]
    others = [
        "오래된 책을 읽는 밤",
        "Los secretos de las aceitunas y la cocina de mi abuela",
        "La maison au bord de la rivière",
    ]
    assert detect(english + others)[200:] == ["ko", "es", "fr"]


def test_real_korean_titles(data_mirror: Path) -> None:
    lines = (data_mirror / "kmrd-small" / "movies.txt").read_text(encoding="utf-8").splitlines()[1:]
    titles = [title for line in lines if (title := line.split("\t")[1])]
    found = detect(titles)
    assert sum(tag == "ko" for tag in found) / len(titles) > 0.99
