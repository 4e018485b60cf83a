"""The cross-lingual options on a small catalogue with translations: what they use, learn, write and refuse."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset, write_dataset
from trainer.data.heads import choose_heads
from trainer.data.item_variants import ItemVariants
from trainer.data.pipeline import TrainingData
from trainer.data.split import split
from trainer.data.variants import TextVariants
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.protocols.aligned_titles import aligned_titles
from trainer.export.export import export
from trainer.models.assembly import load_recommender, make_item_table, make_recommender
from trainer.models.recommender import Recommender
from trainer.runs import Run
from trainer.text.vectors import encode_texts
from trainer.training.crosslingual import CrossLingual, alignment_pairs
from trainer.training.fit import fit

pytestmark = pytest.mark.usefixtures("cache")

_WORDS = {
    "en": ("space", "love", "dog", "winter", "king", "dance", "war", "garden", "doctor", "train"),
    "de": ("Weltraum", "Liebe", "Hund", "Winter", "König", "Tanz", "Krieg", "Garten", "Arzt", "Zug"),
}
_SMALL = {"dimension": 16, "retrieval": {"uniform_negatives": 16}, "query": {"history_length": 8}}


def _title(language: str, number: int) -> str:
    words = _WORDS[language]
    return f"{words[number % 10]} {words[(number // 10 + 3) % 10]} {number}"


@pytest.fixture(scope="module")
def bilingual(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The tiny dataset's interactions over German items with English translations, and a few English ones."""
    folder = tmp_path_factory.mktemp("bilingual")
    tiny = tiny_dataset(folder / "tiny")
    items = tiny.items().collect()
    number = np.arange(items.height)
    english = number % 6 == 5
    items = items.with_columns(
        language=pl.Series(np.where(english, "en", "de")),
        title=pl.Series([_title("en" if other else "de", place) for place, other in enumerate(english)]),
        description=pl.Series([None if place % 3 else "Neu im Programm" for place in number], dtype=pl.String),
    )
    german = items.filter(pl.col("language") == "de")
    where = {item: place for place, item in enumerate(items["item_id"])}
    translations = pl.DataFrame(
        {
            "item_id": german["item_id"],
            "language": ["en"] * german.height,
            "title": [_title("en", where[item]) for item in german["item_id"]],
            "description": pl.Series([None] * german.height, dtype=pl.String),
        }
    )
    return write_dataset(
        folder / "dataset",
        name="bilingual",
        description="",
        licence="made by the tests",
        homepage="",
        interactions=tiny.interactions().collect(),
        items=items,
        users=tiny.users().collect(),  # type: ignore[union-attr]
        translations=translations,
    )


def _config(dataset: Dataset, training: dict[str, object], model: dict[str, object] | None = None) -> Config:
    quick = {"epochs": 1, "batch_size": 64, "learning_rate": 0.01, "warmup_steps": 5, "refit": False}
    return tiny_config(dataset.path, model=_SMALL | (model or {}), training=quick | training)


def _prepared(dataset: Dataset, config: Config) -> tuple[Recommender, CrossLingual, TrainingData, Vocabulary]:
    catalogue = Catalogue.from_dataset(dataset)
    parts = split(dataset, config.data)
    options = CrossLingual(config, dataset, catalogue, parts)
    vocabulary = Vocabulary.from_training(dataset, catalogue, parts, config, options.languages)
    heads = choose_heads(vocabulary.events, config.data.positives)
    data = TrainingData(dataset, catalogue, vocabulary, parts, heads, config)
    items = make_item_table(config, catalogue, vocabulary, variants=options.variants)
    tf.keras.utils.set_random_seed(1)
    model = make_recommender(config, vocabulary, items, data.item_counts)
    options.enter(model, vocabulary)
    return model, options, data, vocabulary


def test_a_variant_brings_its_language_along_and_all_texts_are_equally_likely() -> None:
    own = tf.constant([[0.0], [10.0], [20.0]])
    table = ItemVariants(3, np.array([2, 0, 2]), np.array([[22.0], [1.0], [21.0]], np.float32), [9, 8, 7])
    rows = tf.tile(tf.constant([0, 1, 2]), [3000])
    texts, languages = table.choose(rows, tf.gather(own, rows), tf.gather(tf.constant([1, 2, 3]), rows))
    pairs, counts = np.unique(np.stack([texts[:, 0], languages], axis=1), axis=0, return_counts=True)
    assert pairs.tolist() == [[0, 1], [1, 8], [10, 2], [20, 3], [21, 7], [22, 9]]
    expected = np.array([1500, 1500, 3000, 1000, 1000, 1000])
    assert (np.abs(counts - expected) < 150).all()


def test_training_shows_translations_and_evaluation_the_items_own_texts(bilingual: Dataset) -> None:
    config = _config(bilingual, {"augmentation": {"random_language": True}})
    model, _, _, vocabulary = _prepared(bilingual, config)
    catalogue = Catalogue.from_dataset(bilingual)
    german = catalogue.languages.index("de")
    rows = tf.fill([64], german)
    shown = model.items(rows, True)
    tags = {vocabulary.languages[index - 1] for index in shown["language"].numpy()}
    assert tags == {"de", "en"}
    table = bilingual.translations()
    assert table is not None
    english = table.filter(pl.col("item_id") == catalogue.item_ids[german]).collect()["title"][0]
    expected = dict(zip(("de", "en"), encode_texts([catalogue.texts[german], english], config.text), strict=True))
    for index, vector in zip(shown["language"].numpy(), shown["text"].numpy(), strict=True):
        np.testing.assert_array_equal(vector, expected[vocabulary.languages[index - 1]])
    plain = model.items(rows)
    assert {vocabulary.languages[index - 1] for index in plain["language"].numpy()} == {"de"}


def test_alignment_brings_held_out_translations_together(bilingual: Dataset) -> None:
    settings = {"weight": 1.0, "space": "text", "hold_out": 0.3, "temperature": 0.1}
    config = _config(bilingual, {"alignment": settings}, {"conversion": {"bottleneck": 16}})
    model, options, _, vocabulary = _prepared(bilingual, config)
    _, held = alignment_pairs(config, bilingual, Catalogue.from_dataset(bilingual))
    trained, _ = alignment_pairs(config, bilingual, Catalogue.from_dataset(bilingual))
    assert not set(trained.keys) & set(held.keys)
    assert len(held) == round(0.3 * (len(held) + len(trained)))

    def closeness() -> float:
        index = vocabulary.languages.index("de") + 1
        german, english = (encode_texts(side, config.text) for side in held.of_languages("de", "en"))
        converted = model.candidate_tower.convert(tf.constant(german), tf.fill([len(held)], index)).numpy()
        cosine = (converted * english).sum(axis=1) / np.linalg.norm(converted, axis=1)
        others = (converted @ english.T).mean()
        return float(cosine.mean() - others)

    before = aligned_titles(model, vocabulary, config.text, held)
    assert before["converted/accuracy@1 de→en"] == before["encoder/accuracy@1 de→en"]
    start = closeness()
    term = options._alignment(model, vocabulary)
    optimizer = tf.keras.optimizers.Adam(3e-3)
    conversion = model.candidate_tower.conversion
    assert conversion is not None
    weights = conversion.trainable_weights
    for _ in range(40):
        with tf.GradientTape() as tape:
            loss = term(None)  # type: ignore[arg-type]  # the pairs are its own
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
    after = aligned_titles(model, vocabulary, config.text, held)
    assert after["encoder/accuracy@1 de→en"] == before["encoder/accuracy@1 de→en"]
    assert closeness() > start + 0.02
    assert after["converted/accuracy@1 de→en"] >= before["converted/accuracy@1 de→en"]


def test_a_run_with_everything_on_is_written_reloaded_and_served_the_same(bilingual: Dataset, tmp_path: Path) -> None:
    config = _config(
        bilingual,
        {
            "alignment": {"weight": 0.5, "co_consumed": 2},
            "augmentation": {
                "random_language": True,
                "token_dropout": 0.3,
                "single_fields": True,
                "self_supervised": 0.1,
            },
            "adversarial": {"method": "vat"},
        },
        {"conversion": {"bottleneck": 8, "start": "procrustes"}, "candidate": {"language_affinity": 2}},
    )
    run = fit(config, tmp_path / "run")
    assert (run.path / "language_affinities.png").read_bytes()[:4] == b"\x89PNG"
    figures = json.loads((run.path / "alignment.json").read_text(encoding="utf-8"))
    assert figures["pairs de-en"] == 10  # a fifth of the 51 items with a translation
    assert {name.split("/")[0] for name in figures} == {"encoder", "converted", "shared", "pairs de-en"}
    history = json.loads((run.path / "history.json").read_text())["phases"]
    assert history["further_loss"][0] > 0
    model = load_recommender(Run.open(run.path))
    conversion, affinity = model.candidate_tower.conversion, model.candidate_tower.affinity
    assert conversion is not None
    assert affinity is not None
    assert np.abs(conversion.up.numpy()[1 + conversion.languages.index("en")]).max() > 0
    assert np.abs(affinity.table.numpy()[1:]).max() == pytest.approx(1.0, abs=0.3)
    # Text is left to the towers, whose scores show the effect.
    version = export(Run.open(run.path, ["model.search.enabled=false"]), tmp_path / "model")
    served = tf.saved_model.load(str(version))
    _check_typed(served, model, config, run)


def _check_typed(served: object, model: Recommender, config: Config, run: Run) -> None:
    """A typed query is converted by the request's language, in the graph as in the model."""
    catalogue = Catalogue.from_dataset(run.dataset())
    vocabulary = Vocabulary.load(run.vocabulary)
    vectors = model.candidate_vectors(model.items).numpy()
    raw = tf.constant(encode_texts(["Hund und Garten"], config.text))
    answers = {}
    for tag in ("de", "en", ""):
        index = vocabulary.languages.index(tag) + 1 if tag else 0
        text = model.candidate_tower.embed_text(model.candidate_tower.convert(raw, tf.constant([index])))
        zero = tf.zeros([1], tf.int32)
        query = model.query_tower(
            {
                "user": zero,
                "features": {"language": tf.constant([index]), "country": zero},
                "history": tf.zeros([1, 8, model.fusion.width]),
                "history_mask": tf.zeros([1, 8], tf.bool),
                "text": text,
                "text_mask": tf.constant([True]),
                "timestamp": tf.zeros([1], tf.int64),
            }
        ).numpy()
        expected = np.sort((query @ vectors.T)[0])[::-1][:5]
        empty = tf.constant([[""]])
        found = served.signatures["retrieve"](  # type: ignore[attr-defined]
            user_id=tf.constant([""]),
            history=empty,
            query=tf.constant(["Hund und Garten"]),
            language=tf.constant([tag]),
            country=tf.constant([""]),
            timestamp=tf.constant([0], tf.int64),
            k=tf.constant([5]),
            exclude=empty,
            languages=empty,
            categories=empty,
            include_seen=tf.constant([True]),
        )
        np.testing.assert_allclose(found["scores"][0], expected, rtol=1e-3, atol=1e-4)
        answers[tag] = text.numpy()
    np.testing.assert_array_equal(answers["en"], answers[""])
    assert np.abs(answers["de"] - answers["en"]).max() > 1e-3
    assert len(catalogue) == len(vectors)


@pytest.mark.parametrize("at", ["text", "candidate"])
def test_fgm_adds_the_loss_at_a_worse_place(bilingual: Dataset, at: str) -> None:
    quiet: dict[str, object] = {
        "query": {"user_dropout": 0.0, "history_dropout": 0.0, "feature_dropout": 0.0, "history_length": 8},
        "candidate": {"id_dropout": 0.0, "feature_dropout": 0.0, "text_noise": 0.0},
        "retrieval": {"uniform_negatives": 0},
        "ranking": {"loss_weight": 0.0},
    }
    extra: dict[str, object] = {"adversarial": {"method": "fgm", "epsilon": 0.05, "weight": 1.0, "at": at}}
    model, _, data, _ = _prepared(bilingual, _config(bilingual, extra, quiet))
    batch = next(iter(data.batches(start=0, stop=1)))
    plain = float(model.compute_loss(batch, training=False))
    both = float(model.compute_loss(batch, training=True))
    # Twice the loss plus the effect of the perturbation: some, but not a different loss.
    assert 1e-3 < both - 2 * plain < 0.2 * plain


def test_pairs_that_are_all_held_out_are_refused(bilingual: Dataset) -> None:
    with pytest.raises(BabelrecError, match=r"hold_out is 0\.999999, which leaves none"):
        _prepared(bilingual, _config(bilingual, {"alignment": {"weight": 1.0, "hold_out": 0.999999}}))


@pytest.mark.parametrize("at", ["text", "candidate"])
def test_vat_works_with_the_parts_next_to_the_towers(bilingual: Dataset, at: str) -> None:
    others: dict[str, object] = {
        "candidate": {"popularity": True, "neighbours": {"enabled": True}},
        "linear": {"rank": 3},
        "content": {"enabled": True},
    }
    extra: dict[str, object] = {"adversarial": {"method": "vat", "epsilon": 0.5, "weight": 1.0, "at": at}}
    model, _, data, _ = _prepared(bilingual, _config(bilingual, extra, others))
    batch = next(iter(data.batches(start=0, stop=1)))
    assert np.isfinite(float(model.compute_loss(batch, training=True)))
    further = next(metric for metric in model.metrics if metric.name == "further_loss")
    assert float(further.result()) > 0.0


def test_languages_that_no_item_has_leave_candidates_alone(bilingual: Dataset, tmp_path: Path) -> None:
    config = _config(
        tiny_dataset(tmp_path / "other"),
        {"alignment": {"weight": 1.0, "source": {"name": "dataset", "path": str(bilingual.path)}}},
        {"candidate": {"language": True}},
    )
    model, options, _, vocabulary = _prepared(Dataset.load(tmp_path / "other"), config)
    assert options.languages == ["de", "en"]
    layer = model.candidate_tower._language
    assert layer is not None
    table = layer.table.numpy()
    norms = dict(zip(vocabulary.languages, np.linalg.norm(table[1:], axis=1), strict=True))
    assert norms["de"] == 0.0
    assert norms["en"] > 0.0


def test_with_everything_off_nothing_is_read(tiny: Dataset) -> None:
    config = _config(tiny, {})
    model, options, _, _ = _prepared(tiny, config)
    assert options.languages == []
    assert len(options.variants) == len(TextVariants.none()) == 0
    assert model.candidate_tower.conversion is None
    assert "_together" not in vars(options)


@pytest.mark.parametrize(
    ("training", "model", "message"),
    [
        ({"augmentation": {"random_language": True}}, {}, "tiny has no translations"),
        ({"alignment": {"weight": 1.0}}, {}, "tiny has no texts in two languages"),
        ({"alignment": {"weight": 1.0, "space": "text"}}, {}, r"model\.conversion\.bottleneck"),
        ({}, {"conversion": {"bottleneck": 4, "pivot": "fi"}}, "'fi'"),
    ],
)
def test_options_without_their_data_are_refused(
    tiny: Dataset, training: dict[str, object], model: dict[str, object], message: str
) -> None:
    with pytest.raises(BabelrecError, match=message):
        _prepared(tiny, _config(tiny, training, model))
