"""Typed wishes: the reader's formula, what tuning it changes and what it leaves alone."""

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from tests.trainer.tiny import tiny_config
from trainer.config import Config
from trainer.data.catalogue import Catalogue
from trainer.data.category_names import CategoryNames
from trainer.data.dataset import Dataset
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.models.assembly import load_recommender, make_item_table, make_recommender
from trainer.models.recommender import Recommender
from trainer.models.requests import CatalogueRanker
from trainer.models.sharing import all_weights, weight_paths
from trainer.runs import Run
from trainer.text.vectors import encode_texts
from trainer.towers.wishes import WishReader
from trainer.training.wishes import tune_wishes

pytestmark = pytest.mark.usefixtures("cache")
# Nobody calls the tiny dataset's categories so in it.
_WISHES = {"Romance": ["romance", "로맨스", "浪漫"], "Sci-Fi": ["science fiction", "sci-fi"]}


@pytest.fixture(scope="module")
def config(tiny: Dataset) -> Config:
    return tiny_config(
        tiny.path,
        model={
            "dimension": 16,
            "retrieval": {"uniform_negatives": 16},
            "query": {"history_length": 8},
            "wishes": {"enabled": True, "steps": 200, "titles_kept": 0.6},
        },
    )


def _model(tiny: Dataset, run: Run, config: Config) -> Recommender:
    """The tiny run's towers with an untrained reader."""
    catalogue = Catalogue.from_dataset(tiny)
    vocabulary = Vocabulary.load(run.vocabulary)
    names = CategoryNames(catalogue.category_labels)
    items = make_item_table(catalogue, vocabulary, config.text, names=names)
    # The reader's first weights, which would otherwise depend on the tests before.
    tf.keras.utils.set_random_seed(3)
    model = make_recommender(config, vocabulary, items, tf.zeros([items.size]))
    all_weights(load_recommender(run), model).copy()
    return model


def _counts(model: Recommender) -> npt.NDArray[np.float32]:
    return np.ones(model.items.size, np.float32)


def test_a_reading_is_the_gates_mixture_of_both() -> None:
    reader = WishReader(3, 4)
    rng = np.random.default_rng(2)
    sentences = rng.normal(size=(5, 6)).astype(np.float32)
    texts = rng.normal(size=(5, 4)).astype(np.float32)
    reader(sentences, texts)
    for weight in reader.weights:
        weight.assign(rng.normal(size=weight.shape))
    category, place, hidden, gate = (reader._category, reader._place, reader._hidden, reader._gate)
    logits = 10.0 * sentences @ category.kernel.numpy() + category.bias.numpy()
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    wish = likely / likely.sum(axis=1, keepdims=True) @ place.kernel.numpy()
    title = np.maximum(sentences @ hidden.kernel.numpy() + hidden.bias.numpy(), 0.0) @ gate.kernel.numpy()
    title = title + gate.bias.numpy()
    for shift, training in ((reader.shift.numpy(), False), (0.0, True)):
        share = 1.0 / (1.0 + np.exp(shift - title))
        expected = share * texts + (1.0 - share) * wish
        np.testing.assert_allclose(reader(sentences, texts, training=training), expected, rtol=1e-3, atol=1e-4)
    assert not any(weight is reader.shift for weight in reader.learned)
    assert len(reader.learned) == len(reader.weights) - 1


def test_names_of_categories_find_their_items_and_nothing_else_changes(
    tiny: Dataset, tiny_run: Run, config: Config
) -> None:
    model = _model(tiny, tiny_run, config)
    before = {name: weight.numpy() for name, weight in weight_paths(model).items()}
    loss = tune_wishes(model, model.items, _counts(model), config.model.wishes, seed=3)
    assert np.isfinite(loss)
    for name, weight in weight_paths(model).items():
        changed = not np.array_equal(weight.numpy(), before[name])
        assert changed == ("wishes/" in name), name
    ranker = CatalogueRanker(model, model.items, {"retrieval": 1.0}, candidates=20)
    catalogue = model.items.catalogue
    for label, typed in _WISHES.items():
        rows = ranker.rank_texts(tf.constant(encode_texts(typed, config.text)), 10)
        for line in rows.tolist():
            assert sum(label in catalogue.labels(row) for row in line) >= 8

    reader = model.query_tower.wishes
    assert reader is not None
    titles = reader.title_logits(model.items.texts)[:, 0] - reader.shift
    assert np.mean(titles.numpy() > 0.0) == pytest.approx(0.6, abs=1.5 / model.items.size)


def test_what_cannot_be_learned_from_is_refused(tiny: Dataset, tiny_run: Run, config: Config) -> None:
    with pytest.raises(BabelrecError, match=r"model\.wishes\.enabled: true"):
        plain = load_recommender(tiny_run)
        tune_wishes(plain, plain.items, _counts(plain), config.model.wishes, seed=3)
    model = _model(tiny, tiny_run, config)
    with pytest.raises(BabelrecError, match="No category has a training positive"):
        tune_wishes(model, model.items, 0.0 * _counts(model), config.model.wishes, seed=3)
