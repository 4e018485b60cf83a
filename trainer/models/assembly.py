"""From settings and data to a built model, and from a run directory back to it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.category_names import CategoryNames
from trainer.data.dataset import Dataset
from trainer.data.item_table import ItemTable
from trainer.data.item_variants import ItemVariants
from trainer.data.languages import UNDETERMINED
from trainer.data.requests import Requests
from trainer.data.split import Split, training_part
from trainer.data.variants import TextVariants
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.models.ranker import CatalogueRanker
from trainer.models.recommender import Recommender
from trainer.models.statistics import RunStatistics, load_statistics, save_statistics
from trainer.models.text_search import (
    SEARCH_RECORD,
    SearchFeatures,
    SearchStatistics,
    SearchWeights,
    TextSearch,
    default_weights,
)
from trainer.models.weights import restore_weights
from trainer.runs import Run
from trainer.text.preparation import prepare_labels, prepare_texts
from trainer.text.settings import TextConfig
from trainer.text.tuning import text_features, trained_part
from trainer.text.vectors import encode_texts
from trainer.towers.relations import Relations

_Floats = npt.NDArray[np.float32]


def make_item_table(
    config: Config,
    catalogue: Catalogue,
    vocabulary: Vocabulary,
    *,
    variants: TextVariants | None = None,
    names: CategoryNames | None = None,
    own: Catalogue | None = None,
    known_ids: bool = True,
    relations: Relations | None = None,
) -> ItemTable:
    """The catalogue as tensors; a frozen encoder's vectors come from the cache on disk.

    With a tuned encoder (`text.tuning`) the table holds the input of its trained part. Category labels are always
    the pretrained encoder's vectors.

    Args:
        config: The run's settings.
        catalogue: The items.
        vocabulary: The run's vocabulary.
        variants: Additional item texts for training.
        names: Names of the category labels, as text queries for training.
        own: The run's catalogue, if different; its items are the neighbours of items without a learned vector.
        known_ids: Whether equal ids in ``catalogue`` and ``vocabulary`` mean the same item.
        relations: Of the run, if ``catalogue`` is the run's, or a later state of it; ``own`` is not read then.
    """
    text = config.text
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
    known = vocabulary if known_ids else replace(vocabulary, items=[])
    compared = relations or Relations(config, vocabulary, own or catalogue)
    neighbours, content = compared.of_items(catalogue, known, later=relations is not None)
    return ItemTable(
        catalogue,
        known,
        texts if features is None else features,
        labels,
        shown,
        typed,
        neighbours=neighbours,
        content=content,
    )


def item_table_of_run(
    run: Run,
    catalogue: Catalogue,
    *,
    own: Catalogue | None = None,
    known_ids: bool = True,
    relations: Relations | None = None,
) -> ItemTable:
    """A catalogue as tensors for a run's model.

    Args:
        run: The run; its settings determine the names of category labels.
        catalogue: The run's catalogue, or another.
        own: The run's catalogue, if ``catalogue`` has the same items with other texts; None: it is ``catalogue``.
        known_ids: False: the ids are another dataset's, so equal ids may mean different items.
        relations: See `make_item_table`.
    """
    config, vocabulary = run.config, Vocabulary.load(run.vocabulary)
    names = CategoryNames.load(config.data.category_names, catalogue.category_labels)
    if not known_ids and config.model.candidate.neighbours.enabled:
        own = Catalogue.from_dataset(run.dataset())
    return make_item_table(
        config, catalogue, vocabulary, names=names, own=own, known_ids=known_ids, relations=relations
    )


def make_text_search(
    run: Run,
    model: Recommender,
    items: ItemTable,
    counts: npt.NDArray[np.integer | np.floating],
    vectors: tf.Tensor,
    fitted: SearchStatistics | None = None,
) -> TextSearch | None:
    """Text search for a trained model; None if ``model.search`` is off.

    Args:
        run: A finished run.
        model: The run's model.
        items: The catalogue, N items.
        counts: [N] training positives.
        vectors: Float32 [N, D], the candidate tower's vectors of the items.
        fitted: Statistics of the catalogue that the model was trained on; None: it is that of ``items``.
    """
    settings = run.config.model.search
    if not settings.enabled:
        return None
    weights = (
        SearchWeights(**run.read(SEARCH_RECORD)) if (run.path / SEARCH_RECORD).exists() else default_weights(settings)
    )
    features = SearchFeatures.of(model, items, counts, fitted)
    return TextSearch(features, weights, settings.dimension, vectors, fitted)


def fit_statistics(run: Run, own: Catalogue, parts: Split) -> RunStatistics:
    """Computes the statistics of a run's catalogue, and stores them.

    Args:
        run: A finished run.
        own: Its catalogue.
        parts: What its model was trained on.
    """
    relations = Relations(run.config, Vocabulary.load(run.vocabulary), own)
    items = item_table_of_run(run, own, relations=relations)
    model = load_recommender(run, items)
    counts = np.bincount(own.rows(parts.train["item_id"]), minlength=len(own))
    search = make_text_search(run, model, items, counts, model.candidate_vectors(items))
    statistics = RunStatistics(relations.statistics, None if search is None else search.statistics)
    save_statistics(run, statistics)
    return statistics


def text_ranker(run: Run, dataset: Dataset, catalogue: Catalogue) -> CatalogueRanker:
    """Answers text queries over the whole catalogue as the exported graph does.

    Args:
        run: A finished run.
        dataset: The run's dataset.
        catalogue: The dataset's catalogue.

    Raises:
        BabelrecError: the run is not finished.
    """
    items = item_table_of_run(run, catalogue)
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
    """Sentence vectors float32 [n, T] of text queries in an unspecified language, as in serving."""
    return model.candidate_tower.text_vectors(text_inputs(texts, [UNDETERMINED] * len(texts), text))


def text_inputs(texts: Sequence[str], languages: Sequence[str], text: TextConfig) -> tf.Tensor:
    """Texts in the form of an item table, [n, ...]: vectors, inputs of the encoder's trained part, or strings."""
    prepared = prepare_texts(texts, languages, text)
    features = text_features(prepared, text)
    return tf.constant(prepared, tf.string) if features is None else tf.constant(features)


def make_recommender(
    config: Config, vocabulary: Vocabulary, items: ItemTable, item_counts: npt.NDArray[np.float32] | None = None
) -> Recommender:
    """A recommender with all weights created, at their initial values.

    Args:
        config: The run's settings.
        vocabulary: The run's vocabulary.
        items: The catalogue to use, N items.
        item_counts: Float32 [N], their training positives; None: zeros, for a model that is not trained further.
    """
    counts = np.zeros(items.size, np.float32) if item_counts is None else item_counts
    heads = vocabulary.heads(config.data.positives)
    model = Recommender(vocabulary, config.model, heads, items, counts, trained_part(config.text))
    _build(model, items)
    popularity = model.fusion.popularity
    if popularity is not None:
        of_known = np.zeros(len(vocabulary.items) + 1, np.float32)
        np.add.at(of_known, items.ids.numpy(), counts)
        popularity.fit(of_known)
    return model


def load_recommender(run: Run, items: ItemTable | None = None) -> Recommender:
    """The trained model of a run.

    Args:
        run: A finished run.
        items: The catalogue to use (`item_table_of_run`); None: the one that the model was trained on.

    Raises:
        BabelrecError: the run is not finished, or its weights are broken.
    """
    vocabulary = Vocabulary.load(run.vocabulary)
    if items is None:
        items = item_table_of_run(run, Catalogue.from_dataset(run.dataset()))
    model = make_recommender(run.config, vocabulary, items)
    restore_weights(run, model)
    if model.fusion.linear is not None:
        model.fusion.linear.adapt_to(items)
    return model


def load_over(run: Run, catalogue: Catalogue) -> tuple[Recommender, ItemTable]:
    """The trained model of a run over a later catalogue, with all that was fitted to its own, as an export serves it.

    Args:
        run: A finished run.
        catalogue: It should share most ids with the run's; new items are placed by their content.
    """
    statistics = load_statistics(run)
    own = Catalogue.from_dataset(run.dataset()) if statistics is None else statistics.relations
    relations = Relations(run.config, Vocabulary.load(run.vocabulary), own)
    items = item_table_of_run(run, catalogue, relations=relations)
    return load_recommender(run, items), items


def _build(model: Recommender, items: ItemTable) -> None:
    """Calls every layer once, so that all weights exist."""
    vectors = model.candidate_tower(items(tf.zeros([1], tf.int32)))
    nobody = Requests.of_nobody(1)
    batch = nobody.batch(model.config.query.history_length)
    queries = model.query_vectors(batch, items, vectors)
    if model.heads:
        model.ranking_model(queries, vectors[tf.newaxis])
