"""Language tags and detection."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from trainer.data.languages import DETECTED, LanguageError, detect, detect_with_confidence, normalise
from trainer.data.settings import MovieLens100kSource
from trainer.data.sources import prepare
from trainer.data.sources.kmrd import parse_english


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
    """Alone, these names fit other languages better; among English titles they are classified as English."""
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


# Product names written for this test: short, and without words that give a language away.
PRODUCTS = {
    "en": (
        "Wooden spoon, waterproof hiking boots, kids' raincoat, stainless steel kettle, garden hose, woollen blanket, "
        "leather wallet, bread knife, two-person tent, wireless headphones, yoga mat, coffee grinder, reading lamp, "
        "bicycle pump, sunglasses, cast iron skillet, ceramic mug, toothbrush holder, beach towel, mountain bike"
    ),
    "de": (
        "Kochlöffel aus Holz, wasserdichte Wanderschuhe, Regenjacke für Kinder, Wasserkocher aus Edelstahl, "
        "Gartenschlauch, Wolldecke, Geldbörse aus Leder, Brotmesser, Zelt für zwei Personen, kabellose Kopfhörer, "
        "Yogamatte, Kaffeemühle, Leselampe, Fahrradpumpe, Sonnenbrille, Gusseiserne Pfanne, Keramikbecher, "
        "Zahnbürstenhalter, Strandtuch, Geländefahrrad"
    ),
    "fr": (
        "Cuillère en bois, chaussures de randonnée imperméables, imperméable pour enfants, bouilloire en inox, "
        "tuyau d'arrosage, couverture en laine, portefeuille en cuir, couteau à pain, tente pour deux personnes, "
        "casque sans fil, tapis de yoga, moulin à café, lampe de lecture, pompe à vélo, lunettes de soleil, "
        "poêle en fonte, tasse en céramique, porte-brosse à dents, serviette de plage, vélo tout-terrain"
    ),
    "es": (
        "Cuchara de madera, botas de montaña impermeables, chubasquero infantil, hervidor de acero inoxidable, "
        "manguera de jardín, manta de lana, cartera de cuero, cuchillo para pan, tienda para dos personas, auriculares "
        "inalámbricos, esterilla de yoga, molinillo de café, lámpara de lectura, bomba de bicicleta, gafas de sol, "
        "sartén de hierro fundido, taza de cerámica, portacepillos de dientes, toalla de playa, bicicleta de montaña"
    ),
    "it": (
        "Cucchiaio di legno, scarponi da trekking impermeabili, impermeabile per bambini, bollitore in acciaio, "
        "tubo da giardino, coperta di lana, portafoglio in pelle, coltello da pane, tenda per due persone, "
        "cuffie senza fili, "
        "tappetino da yoga, macinacaffè, lampada da lettura, pompa per bicicletta, occhiali da sole, "
        "padella in ghisa, "
        "tazza di ceramica, portaspazzolino, telo mare, bicicletta da montagna"
    ),
}  # fmt: skip


def _recalls(texts: list[str], languages: list[str]) -> dict[str, float]:
    found = detect(texts)
    return {
        wanted: float(np.mean([tag == wanted for tag, given in zip(found, languages, strict=True) if given == wanted]))
        for wanted in dict.fromkeys(languages)
    }


def _products(of: dict[str, int]) -> tuple[list[str], list[str]]:
    pairs = [(name, tag) for tag, count in of.items() for name in PRODUCTS[tag].split(", ")[:count]]
    return [name for name, _ in pairs], [tag for _, tag in pairs]


def test_a_shop_in_five_languages_stays_one() -> None:
    recalls = _recalls(*_products(dict.fromkeys(PRODUCTS, 20)))
    assert min(recalls.values()) >= 0.5
    assert np.mean(list(recalls.values())) >= 0.85


@pytest.mark.parametrize("majority", list(PRODUCTS))
def test_a_shop_with_few_products_in_further_languages_keeps_them(majority: str) -> None:
    texts, languages = _products({tag: 20 if tag == majority else 6 for tag in PRODUCTS})
    recalls = _recalls(texts, languages)
    assert recalls[majority] >= 0.9
    assert np.mean(list(recalls.values())) >= 0.8


@pytest.mark.parametrize("language", list(PRODUCTS))
def test_a_shop_in_one_language_is_in_one(language: str) -> None:
    texts, _ = _products({language: 20})
    assert set(detect(texts)) == {language}


def test_doubts_are_reported_and_confident_ones_are_right() -> None:
    texts, languages = _products(dict.fromkeys(PRODUCTS, 20))
    texts, languages = [*texts, "", "1941", "오래된 책을 읽는 밤"], [*languages, "und", "und", "ko"]
    found = detect_with_confidence(texts)
    right = np.array([tag == wanted for tag, wanted in zip(found.tags, languages, strict=True)])
    assert right[~found.doubtful].mean() >= 0.98
    assert list(found.doubtful[-3:]) == [True, True, False]
    assert found.confidence[-3] == 0.0
    assert ((found.confidence >= 0.0) & (found.confidence <= 1.0)).all()
    assert found.confidence.shape == (len(texts),)


def test_an_english_catalogue_is_english(cache: Path) -> None:
    """MovieLens: with the detector alone, a quarter of the films were in one of fourteen other languages."""
    titles = prepare(MovieLens100kSource()).items().select("title").collect()["title"].to_list()
    found = Counter(detect(titles))
    assert found["en"] / len(titles) >= 0.97
    assert len(set(found) - {"und"}) <= 6


def test_two_languages_of_real_titles_are_kept_apart(data_mirror: Path) -> None:
    films = [
        line.split("\t")
        for line in (data_mirror / "kmrd-small" / "movies.txt").read_text(encoding="utf-8").splitlines()[1:]
    ]
    korean = [film[1] for film in films if film[1]]
    english = [title for film in films if (title := parse_english(film[2])[0])]
    recalls = _recalls([*korean, *english], ["ko"] * len(korean) + ["en"] * len(english))
    assert min(recalls.values()) >= 0.99
    with zipfile.ZipFile(data_mirror / "mind-sample" / "xMINDsmall_dev.cmn.zip") as archive:
        lines = archive.read(next(name for name in archive.namelist() if name.endswith(".tsv"))).decode().splitlines()
    chinese = [line.split("\t")[1] for line in lines[1:1001]]
    news = (data_mirror / "mind-sample" / "news.tsv").read_text(encoding="utf-8").splitlines()[:1000]
    recalls = _recalls([*chinese, *(line.split("\t")[3] for line in news)], ["zh"] * 1000 + ["en"] * 1000)
    assert min(recalls.values()) >= 0.99


def test_real_korean_titles(data_mirror: Path) -> None:
    lines = (data_mirror / "kmrd-small" / "movies.txt").read_text(encoding="utf-8").splitlines()[1:]
    titles = [title for line in lines if (title := line.split("\t")[1])]
    found = detect(titles)
    assert sum(tag == "ko" for tag in found) / len(titles) > 0.99
