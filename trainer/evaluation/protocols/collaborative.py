"""P1: full-catalogue ranking of the run's test part, compared with baselines measured by the same code.

P2 (`zero_shot`) ranks another catalogue the same way.
"""

import gc
import time
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.query_features import user_profiles
from trainer.data.split import Split, split
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.heads.events import SampledEvents, head_events, sampled_events
from trainer.evaluation.heads.quality import evaluate_heads
from trainer.evaluation.heads.result import HeadResult
from trainer.evaluation.metrics.ranking import Rankings, rank_in_tiles
from trainer.evaluation.metrics.registry import with_own
from trainer.evaluation.protocols.baselines import baseline_rankings, mean_history
from trainer.evaluation.protocols.comparison import RankingProblem, compare
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.evaluation.protocols.temperature import GroupsAlone, groups_alone
from trainer.evaluation.report.contents import EvaluationReport
from trainer.models.assembly import item_table_of_run, load_recommender
from trainer.models.calibration import load_calibrations
from trainer.models.ranking import RETRIEVAL
from trainer.runs import Run
from trainer.text.preparation import prepare_texts
from trainer.text.vectors import encode_texts

# Longer than any cut-off, so that the recall curve extends beyond it.
_CURVE_LENGTH = 100
_WITH_CATEGORIES = "mean-history with categories"
_RETRIEVAL_ALONE = "retrieval alone"
# Candidates up to which their texts are encoded once more, with their categories: a minute or two of two processors.
_MOST_DESCRIBED = 100_000


def evaluate_collaborative(run: Run) -> EvaluationReport:
    """Collaborative quality: the run's test part, by whole requests (retrieval, then ranking).

    Known users are queried by id and history; candidates are the items with a positive; training
    items are excluded.
    """
    dataset = run.dataset()
    return evaluate_on_catalogue(
        run,
        dataset,
        Catalogue.from_dataset(dataset),
        # Not kept here: the events of a large dataset take gigabytes.
        with_test_part(split(dataset, run.config.data), dataset),
        protocol="P1",
        known_users=True,
    )


def evaluate_on_catalogue(
    run: Run, dataset: Dataset, catalogue: Catalogue, parts: Split, *, protocol: str, known_users: bool
) -> EvaluationReport:
    """Ranks a whole catalogue for each user of the test part, or for a sample of them (`evaluation.users`).

    Args:
        run: A finished run.
        dataset: The dataset to rank; the run's own, or another.
        catalogue: Catalogue of the dataset.
        parts: Split of the dataset, with a test part.
        protocol: `P1` or `P2`.
        known_users: Whether the model knows the dataset's users and items by their ids.
    """
    config = run.config
    vocabulary = Vocabulary.load(run.vocabulary)
    history, profiles = pl.concat([parts.train, parts.validation]), user_profiles(dataset)
    hold_out = HoldOut(
        catalogue,
        vocabulary,
        history,
        parts.test,
        # As in serving, where a request for more items gets more candidates.
        candidates=max(config.export.candidates, *config.evaluation.ks),
        known_users=known_users,
        profiles=profiles,
        most=config.evaluation.users,
        seed=config.seed,
    )
    events = None
    if known_users and vocabulary.heads(config.data.positives):
        events = sampled_events(dataset, parts, "test", history, hold_out.sample, config.evaluation.users, config.seed)
    del parts, history
    trained = set(vocabulary.items) if known_users else set()
    problem = RankingProblem(
        dataset=dataset.name,
        protocol=protocol,
        split="test",
        train=hold_out.train,
        test=hold_out.test,
        item_languages=hold_out.languages,
        trained_items=np.array([catalogue.item_ids[row] in trained for row in hold_out.candidate_rows]),
        training_counts=hold_out.training_counts,
        ks=config.evaluation.ks,
        metrics=with_own(config.evaluation.metrics),
        resamples=config.evaluation.bootstrap_samples,
        seed=config.seed,
        user_ids=hold_out.user_ids,
        sample=hold_out.sample if hold_out.sample.is_part else None,
    )
    length = max(_CURVE_LENGTH, *config.evaluation.ks)
    answers = _answers(run, catalogue, vocabulary, hold_out, problem, events, profiles, length, known_users)
    # The model's graphs hold on to it in circles, and the baselines need its memory.
    gc.collect()
    baselines, left_out = _baselines(hold_out, catalogue, config, length)
    if answers.retrieval is not None:
        baselines = {_RETRIEVAL_ALONE: answers.retrieval, **baselines}
    report = compare(
        problem, config.name, answers.rankings, baselines=baselines, seconds=answers.seconds, left_out=left_out
    )
    if answers.alone is not None:
        report = answers.alone.added_to(report)
    return replace(report, heads=answers.heads)


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What is needed of the model.

    Attributes:
        rankings: [U, K].
        seconds: What these took.
        retrieval: [U, K] by retrieval alone; None: the ranking stage changes nothing.
        alone: Cold and warm items alone.
        heads: By name.
    """

    rankings: Rankings
    seconds: float
    retrieval: Rankings | None
    alone: GroupsAlone | None
    heads: dict[str, HeadResult]


def _answers(
    run: Run,
    catalogue: Catalogue,
    vocabulary: Vocabulary,
    hold_out: HoldOut,
    problem: RankingProblem,
    events: SampledEvents | None,
    profiles: pl.DataFrame,
    length: int,
    known_users: bool,
) -> _Answers:
    config = run.config
    items = item_table_of_run(run, catalogue, known_ids=known_users)
    model = load_recommender(run, items)
    started = time.monotonic()
    blend = run.read("blend.json")
    ranker = hold_out.ranker(model, items, blend)
    rankings = hold_out.rankings(ranker, length)
    seconds = time.monotonic() - started
    retrieval = None
    if any(blend.get(name) for name in model.signals):
        retrieval = hold_out.rankings(ranker.blended({RETRIEVAL: 1.0}), length)
    alone = None
    if config.data.split.cold_items > 0.0 and known_users:
        alone = groups_alone(problem, lambda only: hold_out.rankings(hold_out.among(ranker, only), length))
    heads: dict[str, HeadResult] = {}
    if events is not None:
        heads = evaluate_heads(
            model.heads,
            head_events(ranker, catalogue, vocabulary, model.heads, events.history, events.events, profiles),
            load_calibrations(run),
            model.ranking_model.scale.numpy(),
            resamples=config.evaluation.bootstrap_samples,
            seed=config.seed,
        )
    return _Answers(rankings, seconds, retrieval, alone, heads)


def _baselines(
    hold_out: HoldOut, catalogue: Catalogue, config: Config, length: int
) -> tuple[dict[str, Rankings], dict[str, str]]:
    """Popularity, random, and mean history of the encoder's text vectors, alone and with categories.

    Returns:
        Name -> rankings, and name -> why it was left out.
    """
    text, rows, train = config.text, hold_out.candidate_rows, hold_out.train
    texts = prepare_texts(catalogue.texts, catalogue.languages, text)
    vectors = encode_texts([texts[row] for row in rows], text, progress=False)
    found = baseline_rankings(train, length, item_vectors=vectors, counts=hold_out.training_counts, seed=config.seed)
    del vectors
    if not catalogue.category_labels:
        return found, {}
    if len(rows) > _MOST_DESCRIBED:
        reason = f"it would encode {len(rows):,} more texts, and the limit is {_MOST_DESCRIBED:,}"
        return found, {_WITH_CATEGORIES: reason}
    described = [" ".join([texts[row], *catalogue.labels(row)]) for row in rows]
    scorer = mean_history(train, encode_texts(described, text, progress=False))
    found[_WITH_CATEGORIES] = rank_in_tiles(scorer, train.num_users, train.num_items, train, length)
    return found, {}


def with_test_part(parts: Split, dataset: Dataset) -> Split:
    """Returns the split unchanged if it has a test part.

    Raises:
        BabelrecError: there is no test part.
    """
    if parts.test.is_empty():
        raise BabelrecError(
            f"There is no test part of {dataset.name} (data.split.test_fraction is 0). Train a run with a test part "
            "to measure quality; one without is for deployment."
        )
    return parts
