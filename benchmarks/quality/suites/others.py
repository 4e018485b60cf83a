"""Rows of baselines, fitted with the settings in configs/baselines/."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.baselines.config import BASELINES, load, parse
from benchmarks.baselines.problem import Problem, test_problem
from benchmarks.baselines.search import data_of
from benchmarks.baselines.settings import Baseline
from benchmarks.harness.store import SEEDS, Model
from trainer.config.base import Settings
from trainer.data.settings import DataConfig
from trainer.data.sources import prepare

MEASURING = (
    "benchmarks/baselines/problem.py",
    "trainer/data/split.py",
    "trainer/data/catalogue.py",
    "trainer/evaluation/protocols/baselines.py",
    "trainer/evaluation/protocols/holdout.py",
    "trainer/evaluation/metrics/item_sets.py",
    "trainer/evaluation/metrics/per_user.py",
    "trainer/evaluation/metrics/ranking.py",
    "trainer/text/unit_vectors.py",
)


def baseline_model(
    baseline: Baseline,
    settings: Callable[[], Settings],
    data: Callable[[], DataConfig],
    *,
    name: str | None = None,
    seeds: tuple[int, ...] | None = None,
    problem: Callable[[DataConfig, int], Problem] = test_problem,
    measure: Callable[[Problem, Any], Mapping[str, float]] = Problem.metrics,
) -> Model:
    """A baseline on the test part of a data set.

    Args:
        baseline: The baseline.
        settings: Its settings.
        data: The data, whose ``split.train_users`` may depend on the seed.
        name: Name to use instead of the baseline's own.
        seeds: Seeds to use instead of all for a seeded baseline and one for others.
        problem: Creates its problem.
        measure: (problem, scores) -> metric -> value.
    """

    def found(seed: int) -> Mapping[str, float]:
        task = problem(data(), seed)
        return measure(task, baseline.fit(task, settings(), seed))

    def facts() -> dict[str, Any]:
        given = data()
        return {
            "peer": baseline.name,
            "settings": settings().model_dump(mode="json"),
            "fingerprint": _fingerprint(given),
            "positives": given.positives,
            "split": given.split.model_dump(mode="json"),
            "measured": f"{problem.__qualname__} {measure.__qualname__}",
        }

    if seeds is None:
        # The seed selects the training users.
        seeds = SEEDS if baseline.seeded or data().split.train_users < 1.0 else SEEDS[:1]
    module = baseline.fit.__module__.replace(".", "/") + ".py"
    return Model(name or baseline.name, found, facts, (*MEASURING, module), seeds)


def tuned_baselines(config: str) -> tuple[Model, ...]:
    """Every baseline of configs/baselines/<config>.yaml with its chosen settings.

    Args:
        config: Name of the file.
    """
    file = load(config)
    return tuple(
        baseline_model(BASELINES[name], functools.partial(file.settings, BASELINES[name]), lambda: data_of(file))
        for name in file.search
    )


def reference_baseline(name: str, config: str, settings: Mapping[str, Any], label: str) -> Model:
    """A baseline with the settings of docs/evaluation.md's reference table."""
    baseline = BASELINES[name]
    given = parse(baseline, settings)
    # The table's figures are from one run each; random_state 0 reproduces ALS's.
    seeds = (0,)
    return baseline_model(
        baseline, lambda: given, functools.partial(data_of, load(config)), name=f"{label} (reference)", seeds=seeds
    )


_FINGERPRINTS: dict[str, str] = {}


def _fingerprint(data: DataConfig) -> str:
    """Cached for the process: a dataset is validated whenever it is opened."""
    key = data.source.model_dump_json()
    if key not in _FINGERPRINTS:
        _FINGERPRINTS[key] = prepare(data.source).fingerprint
    return _FINGERPRINTS[key]
