"""What every peer is: settings, and a way from a problem to scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.problem import Problem
from trainer.config.base import Settings
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.ranking import BlockScorer

REMEDY = "Install the peers: pip install -c constraints.txt '.[bench]'"


class NoSettings(Settings):
    """Of a peer that has none."""


@dataclass(frozen=True)
class Peer:
    """One recommender.

    Attributes:
        name: As in tables and in configs/peers/.
        settings: Its settings; the defaults are used for none that is searched.
        fit: Learns from ``problem.learners`` and scores the asked users: (problem, settings, seed).
        seeded: Whether chance takes part.
    """

    name: str
    settings: type[Settings]
    fit: Callable[[Problem, Any, int], BlockScorer]
    seeded: bool = True


def missing(package: str, error: ImportError) -> BabelrecError:
    """The error for a peer whose library is not there."""
    return BabelrecError(f"{package} can't be imported ({error}). {REMEDY}")
