"""The protocols of `evaluate`: P1 on the run's own data, P2 on another catalogue, P4 on the encoder."""

import time
from dataclasses import replace

import numpy as np
import polars as pl

from trainer.config import Config, DataConfig
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.sources import prepare
from trainer.data.split import Split, held_out_events, split
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.baselines import baseline_rankings, mean_history
from trainer.evaluation.comparison import RankingProblem, compare
from trainer.evaluation.head_events import head_events
from trainer.evaluation.heads import judge_heads
from trainer.evaluation.holdout import HoldOut
from trainer.evaluation.metrics import ranking_metrics
from trainer.evaluation.parallel_titles import evaluate_parallel_titles, table_titles
from trainer.evaluation.ranking import Rankings, rank_in_blocks
from trainer.evaluation.report import EvaluationReport
from trainer.evaluation.temperature import with_groups_alone
from trainer.models.assembly import load_recommender, make_item_table
from trainer.models.calibration import load_calibrations
from trainer.runs import Run
from trainer.text.preparation import prepare_texts
from trainer.text.vectors import encode_texts

# Longer than any cut-off, so that the recall curve has room.
_CURVE_LENGTH = 100


def evaluate_p1(run: Run) -> EvaluationReport:
    """Collaborative quality: the run's test part, by whole requests (retrieval, then ranking).

    Known users are asked for by id and history; candidates are the items with a positive; training
    items are excluded.
    """
    dataset = run.dataset()
    catalogue = Catalogue.from_dataset(dataset)
    parts = _with_test(split(dataset, run.config.data), dataset)
    return _evaluate(run, dataset, catalogue, parts, protocol="P1", known_users=True)


def evaluate_p2(run: Run, target: DataConfig) -> EvaluationReport:
    """Zero-shot: the run's model on the items and users of another dataset.

    No id of the target is known to the model: a query is a history of items that are placed by
    their content, and so are the candidates. The target's interactions feed queries and baselines
    alone.

    Args:
        run: A finished run.
        target: The other dataset, its positives and its split.

    Raises:
        BabelrecError: the target is what the run was trained on.
    """
    dataset = prepare(target.source)
    if dataset.fingerprint == run.dataset().fingerprint:
        raise BabelrecError(
            f"{dataset.name} is the data that {run.path} was trained on, so nothing would be zero-shot. "
            "Give the config of another dataset with --target."
        )
    catalogue = Catalogue.from_dataset(dataset)
    parts = _with_test(split(dataset, target), dataset)
    return _evaluate(run, dataset, catalogue, parts, protocol="P2", known_users=False)


def evaluate_p4(config: Config) -> EvaluationReport:
    """The text encoder: accuracy@1 between parallel titles in the two languages with most pairs.

    Raises:
        BabelrecError: the dataset has no translations.
    """
    dataset = prepare(config.data.source)
    translations = dataset.translations()
    if translations is None:
        raise BabelrecError(
            f"{dataset.name} has titles in one language alone. P4 needs pairs: mind with xMIND files, or kmrd with "
            "--set data.source.title_language=both."
        )
    first = dataset.items().collect()
    second = translations.collect()
    pairs = first.join(second, on="item_id", suffix="_of_translation")
    counts = pairs.group_by("language", "language_of_translation").len().sort("len", descending=True)
    languages = (counts["language"][0], counts["language_of_translation"][0])
    return evaluate_parallel_titles(table_titles(dataset.name, first, second, languages), config.text)


def _evaluate(
    run: Run, dataset: Dataset, catalogue: Catalogue, parts: Split, *, protocol: str, known_users: bool
) -> EvaluationReport:
    config = run.config
    vocabulary = Vocabulary.load(run.vocabulary)
    # Ids of another dataset may be spelled like known ones and mean other items.
    known = vocabulary if known_users else replace(vocabulary, items=[])
    items = make_item_table(catalogue, known, config.text)
    model = load_recommender(run, items)
    hold_out = HoldOut(
        catalogue,
        vocabulary,
        parts.train_and_validation,
        parts.test,
        # As in serving, where a request for more items than that gets more candidates.
        candidates=max(config.export.candidates, *config.evaluation.ks),
        known_users=known_users,
    )
    started = time.monotonic()
    length = max(_CURVE_LENGTH, *config.evaluation.ks)
    ranker = hold_out.ranker(model, items, run.read("blend.json"))
    rankings = hold_out.rankings(ranker, length)
    seconds = time.monotonic() - started
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
        resamples=config.evaluation.bootstrap_samples,
        seed=config.seed,
    )
    report = compare(
        problem, config.name, rankings, baselines=_baselines(hold_out, catalogue, config, length), seconds=seconds
    )
    each = ranking_metrics(rankings, hold_out.test, ks=config.evaluation.ks, training_counts=hold_out.training_counts)
    if config.data.split.cold_items > 0.0 and known_users:
        report = with_groups_alone(
            report, problem, lambda only: hold_out.rankings(hold_out.among(ranker, only), length)
        )
    report = replace(report, users=pl.DataFrame({"user_id": hold_out.user_ids, **each.values}))
    if not known_users or not model.heads:
        return report
    events = head_events(
        ranker,
        catalogue,
        vocabulary,
        model.heads,
        parts.train_and_validation,
        held_out_events(dataset, parts, "test"),
    )
    heads = judge_heads(
        model.heads,
        events,
        load_calibrations(run),
        model.ranking_model.scale.numpy(),
        resamples=config.evaluation.bootstrap_samples,
        seed=config.seed,
    )
    return replace(report, heads=heads)


def _baselines(hold_out: HoldOut, catalogue: Catalogue, config: Config, length: int) -> dict[str, Rankings]:
    """Popularity, random, and mean history by the encoder's vectors of texts, alone and with categories."""
    text = config.text
    texts = prepare_texts(catalogue.texts, catalogue.languages, text)
    vectors = encode_texts([texts[row] for row in hold_out.candidate_rows], text, progress=False)
    found = baseline_rankings(
        hold_out.train, length, item_vectors=vectors, counts=hold_out.training_counts, seed=config.seed
    )
    if catalogue.category_labels:
        described = [" ".join([texts[row], *catalogue.labels(row)]) for row in hold_out.candidate_rows]
        scorer = mean_history(hold_out.train, encode_texts(described, text, progress=False))
        found["mean-history with categories"] = rank_in_blocks(
            scorer, hold_out.train.num_users, hold_out.train.num_items, hold_out.train, length
        )
    return found


def _with_test(parts: Split, dataset: Dataset) -> Split:
    if parts.test.is_empty():
        raise BabelrecError(
            f"There is no test part of {dataset.name} (data.split.test_fraction is 0). Train a run with a test part "
            "to measure quality; one without is for deployment."
        )
    return parts
