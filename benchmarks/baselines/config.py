"""configs/peers/<name>.yaml: which settings of each peer were searched, and which the validation part chose."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from benchmarks.peers.factorization import ALS, BPR
from benchmarks.peers.neighbours import ITEM_KNN
from benchmarks.peers.sasrec import SASREC
from benchmarks.peers.settings import Peer
from benchmarks.peers.simple import EASE, MEAN_HISTORY, POPULARITY
from benchmarks.peers.two_tower import TWO_TOWER
from trainer.config.base import Settings
from trainer.documents import read_yaml
from trainer.errors import BabelrecError
from trainer.files import write_text

CONFIGS = Path("configs/peers")
PEERS = {peer.name: peer for peer in (POPULARITY, ALS, BPR, EASE, ITEM_KNN, SASREC, TWO_TOWER, MEAN_HISTORY)}


class Chosen(Settings):
    """The best settings of one peer and what they reached.

    Attributes:
        settings: As in the peer's settings class.
        validation: Metric -> mean over the seeds on the validation part.
        tried: How many combinations were tried.
    """

    settings: dict[str, Any]
    validation: dict[str, float]
    tried: int = Field(ge=1)


class PeersConfig(Settings):
    """One file.

    Attributes:
        data: The config whose `data` section is meant, as a path from the repository's root.
        train_users: Share of users to learn from.
        seeds: A candidate's figure is the mean over these.
        search: Peer -> setting -> values; every combination is tried.
        chosen: Peer -> outcome; written by the search.
    """

    data: str
    train_users: float = 1.0
    seeds: list[int] = Field([42], min_length=1)
    search: dict[str, dict[str, list[Any]]]
    chosen: dict[str, Chosen] = Field({})

    def candidates(self, peer: Peer) -> list[Settings]:
        """All combinations for a peer; its defaults alone where nothing is searched.

        Raises:
            BabelrecError: a setting that the peer does not have, or a value of the wrong type.
        """
        space = self.search.get(peer.name, {})
        combinations = itertools.product(*space.values())
        return [parse(peer, dict(zip(space, values, strict=True))) for values in combinations]

    def settings(self, peer: Peer) -> Settings:
        """What the search chose.

        Raises:
            BabelrecError: it has not been searched.
        """
        if not self.search.get(peer.name):
            return parse(peer, {})
        if peer.name not in self.chosen:
            raise BabelrecError(
                f"The settings of {peer.name} were not searched. Search them: python -m benchmarks.quality --search"
            )
        return parse(peer, self.chosen[peer.name].settings)


def parse(peer: Peer, settings: Mapping[str, Any]) -> Settings:
    """Checked settings of a peer.

    Raises:
        BabelrecError: an unknown or missing setting, or a wrong type.
    """
    try:
        return peer.settings.model_validate(settings)
    except ValidationError as error:
        raise BabelrecError(f"Settings {dict(settings)} of {peer.name}: {error}") from error


def load(name: str) -> PeersConfig:
    """Reads configs/peers/<name>.yaml.

    Raises:
        BabelrecError: missing, broken, or of a peer that there is not.
    """
    path = CONFIGS / f"{name}.yaml"
    config = read_yaml(
        path, TypeAdapter(PeersConfig), what="the settings of peers", remedy="as in the other files of configs/peers."
    )
    unknown = sorted((config.search.keys() | config.chosen.keys()) - PEERS.keys())
    if unknown:
        raise BabelrecError(f"{path} names {unknown[0]!r}, which is no peer; there are {', '.join(PEERS)}.")
    return config


def save_chosen(name: str, chosen: Mapping[str, Chosen]) -> None:
    """Puts outcomes into the file, below the search, whose text and comments stay as they are."""
    path = CONFIGS / f"{name}.yaml"
    merged = load(name).chosen | dict(chosen)
    kept, _, _ = path.read_text(encoding="utf-8").partition("\nchosen:")
    ordered = {peer: merged[peer].model_dump(mode="json") for peer in PEERS if peer in merged}
    block = yaml.safe_dump({"chosen": ordered}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    write_text(path, kept.rstrip("\n") + "\n" + block)
