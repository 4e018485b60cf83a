"""P3: ranking of shown items, for each language of the history and of the candidates.

An article's position in the model's space depends on the language of its text. So each language has its own
candidate vectors: histories are read in one language, candidates in the same or another, and an impression is
evaluated over the candidates that have a text in the candidates' language.

Two comparisons measure the cost of changing the candidates' language on the same lists, with histories kept in
the main language (of most articles). ``same`` uses only the candidates that have a text in both languages;
``mixed`` uses all that have one in the main language, and replaces those that also have the other.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.impressions import Impressions
from trainer.data.item_table import ItemTable
from trainer.data.query_features import user_profiles
from trainer.data.requests import Requests
from trainer.data.split import impression_cut_times, split
from trainer.data.variants import translations
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.impressions import impression_metrics
from trainer.evaluation.metrics.per_user import PerUserMetrics, summaries
from trainer.evaluation.metrics.slices import SliceSize
from trainer.evaluation.protocols.impression_scores import click_through, impression_requests, mean_history_scores
from trainer.evaluation.report.contents import BaselineResult, EvaluationReport, Metrics, Sizes, Slices
from trainer.models.assembly import item_table_of_run, load_recommender
from trainer.models.ranker import score_pairs
from trainer.models.ranking import blend
from trainer.models.recommender import Recommender
from trainer.runs import Run
from trainer.text.preparation import prepare_texts
from trainer.text.vectors import encode_texts

LANGUAGE_PAIR = "language_pair"
SAME, MIXED = "same", "mixed"
DIFFERENCE = "difference"
# Maximum number of languages, by articles, whose pairs are evaluated.
_MOST_LANGUAGES = 4
_WHOLE = ("", "")
_Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Reading:
    """The catalogue read in one language: the items with a text in it, and their vectors."""

    there: npt.NDArray[np.bool_]
    items: ItemTable
    vectors: tf.Tensor
    texts: npt.NDArray[np.float32]

    def exchanged(self, other: "_Reading") -> "_Reading":
        """A copy with the other's vectors for the items that it has."""
        there = other.there[:, np.newaxis]
        return replace(
            self, vectors=tf.where(there, other.vectors, self.vectors), texts=np.where(there, other.texts, self.texts)
        )


@dataclass(frozen=True, eq=False)
class _Task:
    """Impressions to evaluate and their requests, languages of histories and candidates, and the slice to report."""

    slice: tuple[str, str]
    impressions: Impressions
    requests: Requests
    history: _Reading
    candidates: _Reading


_System = Callable[[_Task], _Scores]
_Groups = dict[tuple[str, str], PerUserMetrics]


def evaluate_impressions(run: Run) -> EvaluationReport:
    """News impressions: the run's test part, as a whole and by language of history and candidates.

    Args:
        run: A finished run with ``data.split.kind: impressions``.

    Returns:
        A report whose slices are ``language_pair`` (``zh → en``: Chinese histories, English candidates) and for each
        language ``en`` but the main one ``same: en`` and ``mixed: en``, each with two pairs and their difference.

    Raises:
        BabelrecError: The run has another kind of split, or no test impression can be evaluated.
    """
    config = run.config
    if config.data.split.kind != "impressions":
        raise BabelrecError(
            f"P3 holds out the last impressions, but {run.path} was trained on a split of another kind. Train it with "
            "`data.split.kind: impressions` (configs/mind.yaml)."
        )
    dataset = run.dataset()
    _, begin = impression_cut_times(dataset, config.data.split)
    if begin is None:
        raise BabelrecError("There is no test part (data.split.test_fraction is 0). Train a run with one.")
    catalogue = Catalogue.from_dataset(dataset)
    training = Impressions.from_dataset(dataset, catalogue, stop=begin)
    test = Impressions.from_dataset(dataset, catalogue, start=begin)
    evaluated = test.only(np.ones(len(test.items), bool))
    if not len(evaluated):
        raise BabelrecError(f"No test impression of {dataset.name} has a click and a candidate that was not clicked.")
    started = time.monotonic()
    vocabulary = Vocabulary.load(run.vocabulary)
    own, readings, model = _readings(run, dataset, catalogue)
    known = split(dataset, config.data).train_and_validation
    requests = impression_requests(evaluated, known, catalogue, vocabulary, user_profiles(dataset))
    systems: dict[str, _System] = {
        config.name: _blended(model, run.read("blend.json")),
        "mean-history": lambda task: mean_history_scores(
            task.impressions, task.requests.histories, task.history.texts, task.candidates.texts
        ),
        "click-through": lambda task: click_through(task.impressions, training, len(catalogue)),
        "random": lambda task: np.random.default_rng(config.seed).random(len(task.impressions.items)),
    }
    tasks = [_Task(_WHOLE, evaluated, requests, own, own), *_language_tasks(evaluated, requests, readings)]
    measured = [_measure(system, tasks, evaluated) for system in systems.values()]
    advantages = [measured[0][_WHOLE].minus(other[_WHOLE]) for other in measured[1:]]
    figures = iter(
        summaries(
            [part for groups in measured for part in groups.values()] + advantages,
            resamples=config.evaluation.bootstrap_samples,
            seed=config.seed,
        )
    )
    (metrics, slices), *others = [_nested({key: next(figures) for key in groups}) for groups in measured]
    return EvaluationReport(
        dataset=dataset.name,
        protocol="P3",
        split="test",
        model=config.name,
        metrics=metrics,
        slices=slices,
        seconds=time.monotonic() - started,
        sizes=Sizes(
            users=len(set(evaluated.users)),
            items=len(np.unique(evaluated.items)),
            training=len(training),
            test=int(evaluated.clicked.sum()),
            impressions=len(evaluated),
        ),
        slice_sizes=_slice_sizes(tasks),
        baselines=tuple(
            BaselineResult(name, other, parts, advantage=advantage)
            for name, (other, parts), advantage in zip(list(systems)[1:], others, figures, strict=True)
        ),
    )


def _readings(run: Run, dataset: Dataset, catalogue: Catalogue) -> tuple[_Reading, dict[str, _Reading], Recommender]:
    """The catalogue unchanged, then in each of its languages (most articles first), and the model."""
    text = run.config.text
    table = item_table_of_run(run, catalogue)
    model = load_recommender(run, table)

    def reading(shown: Catalogue, there: npt.NDArray[np.bool_], items: ItemTable) -> _Reading:
        vectors = encode_texts(prepare_texts(shown.texts, shown.languages, text), text, progress=False)
        return _Reading(there, items, model.candidate_vectors(items), vectors)

    others = translations(dataset, catalogue)
    counts = Counter(catalogue.languages) + Counter(others.languages)
    found = {}
    for tag, _ in counts.most_common(_MOST_LANGUAGES):
        texts, languages = list(catalogue.texts), list(catalogue.languages)
        for row, language, other in zip(others.rows, others.languages, others.texts, strict=True):
            if language == tag:
                texts[row], languages[row] = other, tag
        shown = replace(catalogue, texts=texts, languages=languages)
        there = np.array([language == tag for language in languages])
        found[tag] = reading(shown, there, item_table_of_run(run, shown, own=catalogue))
    return reading(catalogue, np.ones(len(catalogue), bool), table), found, model


def _blended(model: Recommender, weights: Mapping[str, float]) -> _System:
    """The final scores of a model; ``weights`` as in `trainer.models.ranking.blend`."""

    def system(task: _Task) -> _Scores:
        pairs = task.impressions.owners, task.impressions.items
        logits, outputs = score_pairs(
            model, task.history.items, task.requests, pairs, task.history.vectors, task.candidates.vectors
        )
        scores: _Scores = blend(logits, outputs, model.signals, weights).astype(np.float64)
        return scores

    return system


def _language_tasks(evaluated: Impressions, requests: Requests, readings: Mapping[str, _Reading]) -> Iterator[_Task]:
    """Every pair of languages, then the main one against each other; tasks without impressions are skipped."""
    place = {name: row for row, name in enumerate(evaluated.ids)}

    def part(task: _Task, kept: npt.NDArray[np.bool_]) -> Iterator[_Task]:
        if kept.any():
            left, asked = task.impressions.of(kept), task.requests.at(np.flatnonzero(kept))
            yield replace(task, impressions=left, requests=asked)

    def task(key: tuple[str, str], shown: npt.NDArray[np.bool_], history: str, candidates: _Reading) -> Iterator[_Task]:
        left = evaluated.only(shown[evaluated.items])
        asked = requests.at(np.array([place[name] for name in left.ids], np.int64))
        asked = replace(asked, histories=asked.histories.only(readings[history].there))
        yield from part(_Task(key, left, asked, readings[history], candidates), asked.histories.sizes() > 0)

    for one, two in itertools.product(readings, repeat=2):
        yield from task((LANGUAGE_PAIR, f"{one} → {two}"), readings[two].there, one, readings[two])
    main, *others = readings
    for other in others:
        first, second = readings[main], readings[other]
        both = first.there & second.there
        for candidates, name in ((first, main), (second, other)):
            yield from task((f"{SAME}: {other}", f"{main} → {name}"), both, main, candidates)
        touched = evaluated.of(evaluated.containing(both[evaluated.items]))
        for candidates, name in ((first, main), (first.exchanged(second), f"{other} or {main}")):
            for whole in task((f"{MIXED}: {other}", f"{main} → {name}"), first.there, main, candidates):
                yield from part(whole, np.isin(whole.impressions.ids, touched.ids))


def _measure(system: _System, tasks: list[_Task], evaluated: Impressions) -> _Groups:
    """Each task's metrics over all evaluated impressions, NaN outside it; after two pairs their difference."""
    place = {name: number for number, name in enumerate(evaluated.ids)}
    found: _Groups = {}
    for task in tasks:
        rows = [place[name] for name in task.impressions.ids]
        values = {}
        for name, column in impression_metrics(task.impressions, system(task)).items():
            values[name] = np.full(len(evaluated), np.nan)
            values[name][rows] = column
        dimension, _ = task.slice
        before = [key for key in found if key[0] == dimension]
        found[task.slice] = PerUserMetrics(values, {})
        if dimension.startswith((SAME, MIXED)) and before:
            found[dimension, DIFFERENCE] = found[task.slice].minus(found[before[0]])
    return found


def _nested(figures: dict[tuple[str, str], Metrics]) -> tuple[Metrics, Slices]:
    """The overall metrics, and those of the slices by dimension."""
    slices: Slices = {}
    for (dimension, group), metrics in figures.items():
        if dimension:
            slices.setdefault(dimension, {})[group] = metrics
    return figures[_WHOLE], slices


def _slice_sizes(tasks: list[_Task]) -> dict[str, dict[str, SliceSize]]:
    sizes: dict[str, dict[str, SliceSize]] = {}
    for task in tasks[1:]:
        shown = task.impressions
        dimension, group = task.slice
        sizes.setdefault(dimension, {})[group] = SliceSize(
            users=len(set(shown.users)),
            items=len(np.unique(shown.items)),
            positives=int(shown.clicked.sum()),
            impressions=len(shown),
        )
    return sizes
