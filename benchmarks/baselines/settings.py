"""The baseline interface: settings, and a function from a problem to scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.baselines.problem import Problem
from trainer.config.base import Settings
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.ranking import BlockScorer

REMEDY = "Install the baselines: pip install -c constraints.txt '.[bench]'"


class NoSettings(Settings):
    """Settings of a baseline without any."""


@dataclass(frozen=True)
class Baseline:
    """One recommender.

    Attributes:
        name: Name in tables and in configs/baselines/.
        settings: Its settings class; defaults are used for settings that are not searched.
        fit: Trains on ``problem.learners`` and scores the evaluated users: (problem, settings, seed).
        seeded: Whether it depends on the seed.
    """

    name: str
    settings: type[Settings]
    fit: Callable[[Problem, Any, int], BlockScorer]
    seeded: bool = True


def missing(package: str, error: ImportError) -> BabelrecError:
    """The error for a baseline whose library is missing."""
    return BabelrecError(f"{package} can't be imported ({error}). {REMEDY}")
