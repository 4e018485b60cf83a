"""Item cold start on MovieLens-100k: a fifth of the items is held out of training completely."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.baselines.config import BASELINES, load
from benchmarks.baselines.problem import Problem
from benchmarks.baselines.settings import NoSettings
from benchmarks.baselines.simple import MEAN_HISTORY, RANDOM, MeanHistorySettings
from benchmarks.harness.store import Model
from benchmarks.quality.suites.others import baseline_model
from benchmarks.quality.suites.ours import ours
from benchmarks.quality.suites.suite import Suite
from trainer.config.loading import load_config
from trainer.data.settings import DataConfig
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import BlockScorer, Rankings, rank_in_blocks
from trainer.evaluation.metrics.slices import (
    COLD,
    ITEM_TEMPERATURE,
    ITEM_TEMPERATURE_ALONE,
    WARM,
    slice_by_items,
    temperature_labels,
)
from trainer.runs import Run

CONFIG = "configs/cold_start.yaml"
RATIO = "recall@10 cold / warm"
_RECALL = "recall@10"
_KS = (10,)


def suite() -> Suite:
    """Cold and warm items in one ranking; then each group ranked alone."""
    tuned = load("movielens-100k")
    baselines = (
        baseline_model(RANDOM, NoSettings, _data, measure=_measured),
        *(_mean_history(categories) for categories in (False, True)),
        # Interactions only: no cold item is ever found, which shows the value of content.
        *(
            baseline_model(
                BASELINES[name], functools.partial(tuned.settings, BASELINES[name]), _data, measure=_measured
            )
            for name in ("popularity", "EASE", "item-kNN")
        ),
    )
    title = "MovieLens-100k, a fifth of the items new"
    models = (ours(CONFIG, _figures), *baselines)
    return Suite("movielens-100k", "item cold start", title, models, headline="recall@10 cold items")


def _mean_history(categories: bool) -> Model:
    name = f"mean-history mUSE, titles{' + genres' if categories else ''}"
    return baseline_model(
        MEAN_HISTORY, lambda: MeanHistorySettings(categories=categories), _data, name=name, measure=_measured
    )


def _data() -> DataConfig:
    return load_config(Path(CONFIG)).data


def _figures(run: Run, seed: int) -> Mapping[str, float]:
    from trainer.evaluation.protocols.collaborative import evaluate_collaborative

    report = evaluate_collaborative(run)

    def recall(dimension: str, group: str) -> float:
        return report.slices[dimension][group][_RECALL].value

    return _table(
        report.metrics[_RECALL].value,
        *(
            recall(dimension, group)
            for dimension in (ITEM_TEMPERATURE, ITEM_TEMPERATURE_ALONE)
            for group in (COLD, WARM)
        ),
    )


def _measured(problem: Problem, score: BlockScorer) -> Mapping[str, float]:
    """The same metrics for a baseline."""

    def ranked(mask: npt.NDArray[np.bool_]) -> Rankings:
        def among(block: slice) -> npt.NDArray[np.floating]:
            return np.where(mask, score(block), -np.inf)

        return rank_in_blocks(among, problem.test.num_users, problem.test.num_items, problem.train, max(_KS))

    together = ranked(np.ones(problem.test.num_items, bool))
    slices = slice_by_items(together, problem.test, temperature_labels(problem.trained), ks=_KS)
    alone = [
        ranking_metrics(ranked(mask), problem.test.only_items(mask), ks=_KS).means()[_RECALL]
        for mask in (~problem.trained, problem.trained)
    ]
    return _table(
        ranking_metrics(together, problem.test, ks=_KS).means()[_RECALL],
        *(slices[group].metrics.means()[_RECALL] for group in (COLD, WARM)),
        *alone,
    )


def _table(recall: float, cold: float, warm: float, cold_alone: float, warm_alone: float) -> dict[str, float]:
    return {
        _RECALL: recall,
        "recall@10 cold items": cold,
        "recall@10 warm items": warm,
        RATIO: cold / warm,
        "recall@10 cold items, alone": cold_alone,
        "recall@10 warm items, alone": warm_alone,
        f"{RATIO}, alone": cold_alone / warm_alone,
    }


MAKERS = (suite,)
