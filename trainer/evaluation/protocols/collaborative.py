"""P1: full-catalogue ranking of the run's test part, compared with baselines measured by the same code.

P2 (`zero_shot`) ranks another catalogue the same way.
"""

import time
from dataclasses import replace

import numpy as np

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.query_features import user_profiles
from trainer.data.split import Split, held_out_events, split
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.heads.events import head_events
from trainer.evaluation.heads.quality import evaluate_heads
from trainer.evaluation.metrics.ranking import Rankings, rank_in_blocks
from trainer.evaluation.metrics.registry import with_own
from trainer.evaluation.protocols.baselines import baseline_rankings, mean_history
from trainer.evaluation.protocols.comparison import RankingProblem, compare
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.evaluation.protocols.temperature import with_groups_alone
from trainer.evaluation.report.contents import EvaluationReport
from trainer.models.assembly import item_table_of_run, load_recommender
from trainer.models.calibration import load_calibrations
from trainer.runs import Run
from trainer.text.preparation import prepare_texts
from trainer.text.vectors import encode_texts

# Longer than any cut-off, so that the recall curve extends beyond it.
_CURVE_LENGTH = 100


def evaluate_collaborative(run: Run) -> EvaluationReport:
    """Collaborative quality: the run's test part, by whole requests (retrieval, then ranking).

    Known users are queried by id and history; candidates are the items with a positive; training
    items are excluded.
    """
    dataset = run.dataset()
    catalogue = Catalogue.from_dataset(dataset)
    parts = with_test_part(split(dataset, run.config.data), dataset)
    return evaluate_on_catalogue(run, dataset, catalogue, parts, protocol="P1", known_users=True)


def evaluate_on_catalogue(
    run: Run, dataset: Dataset, catalogue: Catalogue, parts: Split, *, protocol: str, known_users: bool
) -> EvaluationReport:
    """Ranks a whole catalogue for each user of the test part.

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
    items = item_table_of_run(run, catalogue, known_ids=known_users)
    model = load_recommender(run, items)
    profiles = user_profiles(dataset)
    hold_out = HoldOut(
        catalogue,
        vocabulary,
        parts.train_and_validation,
        parts.test,
        # As in serving, where a request for more items gets more candidates.
        candidates=max(config.export.candidates, *config.evaluation.ks),
        known_users=known_users,
        profiles=profiles,
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
        metrics=with_own(config.evaluation.metrics),
        resamples=config.evaluation.bootstrap_samples,
        seed=config.seed,
        user_ids=hold_out.user_ids,
    )
    report = compare(
        problem, config.name, rankings, baselines=_baselines(hold_out, catalogue, config, length), seconds=seconds
    )
    if config.data.split.cold_items > 0.0 and known_users:
        report = with_groups_alone(
            report, problem, lambda only: hold_out.rankings(hold_out.among(ranker, only), length)
        )
    if not known_users or not model.heads:
        return report
    events = head_events(
        ranker,
        catalogue,
        vocabulary,
        model.heads,
        parts.train_and_validation,
        held_out_events(dataset, parts, "test"),
        profiles,
    )
    heads = evaluate_heads(
        model.heads,
        events,
        load_calibrations(run),
        model.ranking_model.scale.numpy(),
        resamples=config.evaluation.bootstrap_samples,
        seed=config.seed,
    )
    return replace(report, heads=heads)


def _baselines(hold_out: HoldOut, catalogue: Catalogue, config: Config, length: int) -> dict[str, Rankings]:
    """Popularity, random, and mean history of the encoder's text vectors, alone and with categories."""
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
