"""From settings and data to a built model, and from a run directory back to it."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.category_names import CategoryNames
from trainer.data.dataset import Dataset
from trainer.data.languages import UNDETERMINED
from trainer.data.requests import Requests
from trainer.data.split import training_part
from trainer.data.variants import TextVariants
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.models.recommender import Recommender
from trainer.models.requests import CatalogueRanker
from trainer.models.settings import LinearConfig
from trainer.models.text_search import SEARCH_RECORD, SearchFeatures, SearchWeights, TextSearch, default_weights
from trainer.models.weights import restore_weights
from trainer.runs import Run
from trainer.text.preparation import prepare_labels, prepare_texts
from trainer.text.settings import TextConfig
from trainer.text.tuning import text_features, trained_part
from trainer.text.vectors import encode_texts
from trainer.towers.items import ItemTable
from trainer.towers.linear import fit_linear, stretch_of_means, stretch_of_unknown_items
from trainer.towers.neighbours import Content, neighbour_weights
from trainer.towers.variants import ItemVariants


def make_item_table(
    catalogue: Catalogue,
    vocabulary: Vocabulary,
    text: TextConfig,
    variants: TextVariants | None = None,
    names: CategoryNames | None = None,
) -> ItemTable:
    """The catalogue as tensors; a frozen encoder's vectors come from the cache on disk.

    With an encoder that is trained along (`text.tuning`) the table holds what its trained part takes. Category
    labels are always given as the vectors of the encoder as it was before training. ``variants`` are further texts
    that training shows, and ``names`` those of the category labels that it types.
    """
    labels = encode_texts(prepare_labels(catalogue.category_labels, text), text, progress=False)
    texts = prepare_texts(catalogue.texts, catalogue.languages, text)
    shown = None
    if variants is not None and len(variants):
        index = index_of(vocabulary.languages)
        others = text_inputs(variants.texts, variants.languages, text)
        places = [index.get(tag, UNKNOWN) for tag in variants.languages]
        shown = ItemVariants(len(catalogue), variants.rows, others, places)
    typed = None
    if names is not None:
        typed = names, encode_texts(prepare_labels(names.texts, text), text, progress=False)
    features = text_features(texts, text)
    return ItemTable(catalogue, vocabulary, texts if features is None else features, labels, shown, typed)


def item_table_of_run(run: Run, catalogue: Catalogue, vocabulary: Vocabulary) -> ItemTable:
    """The catalogue that a run was trained on, with the names that its categories have in the run's settings."""
    names = CategoryNames.load(run.config.data.category_names, catalogue.category_labels)
    return make_item_table(catalogue, vocabulary, run.config.text, names=names)


def make_text_search(
    run: Run, model: Recommender, items: ItemTable, counts: np.ndarray, vectors: tf.Tensor
) -> TextSearch | None:
    """What answers text queries; None where ``model.search`` is off.

    Args:
        run: A finished run.
        model: Its model.
        items: The catalogue, N items.
        counts: [N] training positives.
        vectors: Float32 [N, D], the candidate tower's vectors of the items.
    """
    settings = run.config.model.search
    if not settings.enabled:
        return None
    weights = (
        SearchWeights(**run.read(SEARCH_RECORD)) if (run.path / SEARCH_RECORD).exists() else default_weights(settings)
    )
    return TextSearch(SearchFeatures.of(model, items, counts), weights, settings.dimension, vectors)


def text_ranker(run: Run, dataset: Dataset, catalogue: Catalogue) -> CatalogueRanker:
    """Answers text queries over the whole catalogue as the exported graph does.

    Args:
        run: A finished run.
        dataset: Of the run.
        catalogue: Of the dataset.

    Raises:
        BabelrecError: the run is not finished.
    """
    items = item_table_of_run(run, catalogue, Vocabulary.load(run.vocabulary))
    model = load_recommender(run, items)
    trained = catalogue.rows(training_part(dataset, run.config).train["item_id"])
    counts = np.bincount(trained, minlength=len(catalogue))
    return CatalogueRanker(
        model,
        items,
        run.read("blend.json"),
        candidates=run.config.export.candidates,
        text_search=make_text_search(run, model, items, counts, model.candidate_vectors(items)),
    )


def typed_vectors(model: Recommender, texts: Sequence[str], text: TextConfig) -> tf.Tensor:
    """Sentence vectors float32 [n, T] of typed texts of unspecified language, as in serving."""
    return model.candidate_tower.text_vectors(text_inputs(texts, [UNDETERMINED] * len(texts), text))


def text_inputs(texts: Sequence[str], languages: Sequence[str], text: TextConfig) -> tf.Tensor:
    """Texts as an item table holds them, [n, ...]: vectors, what the encoder's trained part takes, or strings."""
    prepared = prepare_texts(texts, languages, text)
    features = text_features(prepared, text)
    return tf.constant(prepared, tf.string) if features is None else tf.constant(features)


def relate_items(config: Config, vocabulary: Vocabulary, items: ItemTable, source: Catalogue | None = None) -> None:
    """Tells a table how its items resemble others, if the model looks at that.

    How much of each known item's vector they take, and the content that is compared with a history's.

    Args:
        config: Of the run.
        vocabulary: Of the run; its items are the known ones.
        items: The items that are placed.
        source: The catalogue that the run was trained on; None: theirs.
    """
    settings, compared = config.model.candidate.neighbours, config.model.content
    if not (settings.enabled or compared.enabled):
        return
    content = _content(items.catalogue, config)
    if compared.enabled:
        # A blank text has a vector as well, and all blank ones the same: as if they were one story.
        written = np.array([[bool(text.strip())] for text in items.catalogue.texts])
        items.compare_by(
            np.concatenate([content.text * written, compared.category_weight * content.categories], axis=1)
        )
    if not settings.enabled:
        return
    origin = items.catalogue if source is None else source
    rows = origin.rows(pl.Series("item_id", vocabulary.items, pl.String))
    known = (content if source is None else _content(source, config)).only(rows)
    items.set_neighbours(neighbour_weights(content, known, items.ids.numpy(), settings))


def _content(catalogue: Catalogue, config: Config) -> Content:
    text, column = config.text, config.model.candidate.neighbours.year_column
    # The frozen encoder's vectors, whatever part of it is trained along.
    texts, labels = (
        encode_texts(prepared, text, progress=False)
        for prepared in (
            prepare_texts(catalogue.texts, catalogue.languages, text),
            prepare_labels(catalogue.category_labels, text),
        )
    )
    return Content(catalogue, texts, labels, column)


def make_recommender(
    config: Config,
    vocabulary: Vocabulary,
    items: ItemTable,
    item_counts: tf.Tensor,
    source: Catalogue | None = None,
) -> Recommender:
    """A recommender with all its weights made, at their initial values.

    ``source`` is the catalogue that the vocabulary's items are of; None: that of ``items``.
    """
    relate_items(config, vocabulary, items, source)
    encoder = trained_part(config.text)
    heads = vocabulary.heads(config.data.positives)
    model = Recommender(vocabulary, config.model, heads, items, item_counts, encoder)
    _build(model, items)
    popularity = model.candidate_tower.popularity
    if popularity is not None:
        counts = np.zeros(len(vocabulary.items) + 1, np.float32)
        np.add.at(counts, items.ids.numpy(), np.asarray(item_counts))
        popularity.set_counts(counts)
    return model


def solve_linear(
    config: LinearConfig,
    model: Recommender,
    histories: tuple[np.ndarray, np.ndarray],
    known: int,
    regularization: float,
) -> None:
    """Gives a model its linear part, solved from the training positives; without one nothing happens.

    Args:
        config: Its settings.
        model: With an item table whose rows ``histories`` hold.
        histories: Of training, as of `trainer.data.catalogue.group_by_user`.
        known: Items of the vocabulary.
        regularization: As of `fit_linear`.
    """
    items, history = model.candidate_tower.linear, model.query_tower.linear
    if items is None or history is None:
        return
    indptr, rows = histories
    indices = model.items.ids.numpy()[rows] - 1
    table, signs = fit_linear(indptr, indices, known, rank=history.rank, regularization=regularization)
    items.table.assign(np.concatenate([np.zeros((1, history.rank), np.float32), table]))
    history.signs.assign(signs)
    ids, neighbours = model.items.ids.numpy(), model.items.neighbours.numpy()
    if neighbours.shape[1]:
        of_known = np.zeros((known, known), np.float32)
        of_known[ids[ids > 0] - 1] = neighbours[ids > 0]
        items.stretch.assign(config.new_items * stretch_of_means(table, signs, indptr, indices, of_known))


def load_recommender(run: Run, items: ItemTable | None = None, item_counts: tf.Tensor | None = None) -> Recommender:
    """The trained model of a run.

    Args:
        run: A finished run.
        items: The catalogue to point it at; None reads the one that it was trained on.
        item_counts: Training positives of each item; needed only to train further.

    Raises:
        BabelrecError: the run is not finished, or its weights are broken.
    """
    vocabulary = Vocabulary.load(run.vocabulary)
    source = None
    if items is None:
        items = item_table_of_run(run, Catalogue.from_dataset(run.dataset()), vocabulary)
    elif run.config.model.candidate.neighbours.enabled:
        source = Catalogue.from_dataset(run.dataset())
    counts = tf.zeros([items.size]) if item_counts is None else item_counts
    model = make_recommender(run.config, vocabulary, items, counts, source)
    restore_weights(run, model)
    _stretch_unknown_items(model, items)
    return model


def _stretch_unknown_items(model: Recommender, items: ItemTable) -> None:
    """For a catalogue without known items: new items compete with no known item, so `new_items` does not apply."""
    linear, history = model.candidate_tower.linear, model.query_tower.linear
    if linear is None or history is None or np.any(items.ids.numpy()) or not items.neighbours.shape[1]:
        return
    known = linear.table.numpy()[1:]
    means = items.neighbours.numpy() @ known
    linear.stretch.assign(stretch_of_unknown_items(known, history.signs.numpy(), means))


def _build(model: Recommender, items: ItemTable) -> None:
    """Calls every layer once, so that all weights exist."""
    vectors = model.candidate_tower(items(tf.zeros([1], tf.int32)))
    nobody = Requests.of_histories(np.zeros(2, np.int64), np.zeros(0, np.int32))
    batch = nobody.batch(model.config.query.history_length)
    queries = model.query_vectors(batch, items, vectors)
    if model.heads:
        model.ranking_model(queries, vectors[tf.newaxis])
