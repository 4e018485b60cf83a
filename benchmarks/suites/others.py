"""Rows of peers: fitted with the settings that configs/peers/ holds."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.peers.config import PEERS, load, parse
from benchmarks.peers.problem import Problem, test_problem
from benchmarks.peers.search import data_of
from benchmarks.peers.settings import Peer
from benchmarks.suites.suite import SEEDS, Model
from trainer.config.base import Settings
from trainer.data.settings import DataConfig
from trainer.data.sources import prepare

MEASURING = (
    "benchmarks/peers/problem.py",
    "trainer/data/split.py",
    "trainer/data/catalogue.py",
    "trainer/evaluation/protocols/baselines.py",
    "trainer/evaluation/protocols/holdout.py",
    "trainer/evaluation/metrics/item_sets.py",
    "trainer/evaluation/metrics/per_user.py",
    "trainer/evaluation/metrics/ranking.py",
    "trainer/text/unit_vectors.py",
)


def peer_model(
    peer: Peer,
    settings: Callable[[], Settings],
    data: Callable[[], DataConfig],
    *,
    name: str | None = None,
    seeds: tuple[int, ...] | None = None,
    problem: Callable[[DataConfig, int], Problem] = test_problem,
    measure: Callable[[Problem, Any], Mapping[str, float]] = Problem.metrics,
) -> Model:
    """A peer on the test part of some data.

    Args:
        peer: Which.
        settings: Its settings.
        data: The data, whose ``split.train_users`` may depend on the seed.
        name: Instead of the peer's own.
        seeds: Instead of all seeds for a peer with chance and one for others.
        problem: Makes what it learns from and is asked.
        measure: (problem, scores) -> metric -> value.
    """

    def found(seed: int) -> Mapping[str, float]:
        task = problem(data(), seed)
        return measure(task, peer.fit(task, settings(), seed))

    def facts() -> dict[str, Any]:
        given = data()
        return {
            "peer": peer.name,
            "settings": settings().model_dump(mode="json"),
            "fingerprint": _fingerprint(given),
            "positives": given.positives,
            "split": given.split.model_dump(mode="json"),
            "measured": f"{problem.__qualname__} {measure.__qualname__}",
        }

    if seeds is None:
        # Which users are learned from is drawn by the seed.
        seeds = SEEDS if peer.seeded or data().split.train_users < 1.0 else SEEDS[:1]
    module = peer.fit.__module__.replace(".", "/") + ".py"
    return Model(name or peer.name, found, facts, (*MEASURING, module), seeds)


def tuned_peers(config: str, *, without: tuple[str, ...] = (), **options: Any) -> tuple[Model, ...]:
    """Every peer of configs/peers/<config>.yaml with its chosen settings.

    Args:
        config: Name of the file.
        without: Peers to leave out.
        options: As of `peer_model`.
    """
    file = load(config)
    return tuple(
        peer_model(PEERS[name], functools.partial(file.settings, PEERS[name]), lambda: data_of(file), **options)
        for name in file.search
        if name not in without
    )


def reference_peer(name: str, config: str, settings: Mapping[str, Any], label: str) -> Model:
    """A peer with the settings of docs/evaluation.md's reference table."""
    peer = PEERS[name]
    given = parse(peer, settings)
    # The table's figures are of one run each; random_state 0 gives ALS's.
    seeds = (0,)
    return peer_model(
        peer, lambda: given, functools.partial(data_of, load(config)), name=f"{label} (reference)", seeds=seeds
    )


_FINGERPRINTS: dict[str, str] = {}


def _fingerprint(data: DataConfig) -> str:
    """Kept for the process: a dataset is validated whenever it is opened."""
    key = data.source.model_dump_json()
    if key not in _FINGERPRINTS:
        _FINGERPRINTS[key] = prepare(data.source).fingerprint
    return _FINGERPRINTS[key]
