"""configs/baselines/<name>.yaml: searched settings of each baseline, and those chosen on the validation part."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from benchmarks.baselines.factorization import ALS, BPR
from benchmarks.baselines.neighbours import ITEM_KNN
from benchmarks.baselines.sasrec import SASREC
from benchmarks.baselines.sequences import GRU4REC, RECENT_KNN
from benchmarks.baselines.settings import Baseline
from benchmarks.baselines.simple import EASE, EASE_OF_FREQUENT, MEAN_HISTORY, POPULARITY, POPULARITY_BY_MARKET
from benchmarks.baselines.two_tower import TWO_TOWER
from trainer.config.base import Settings
from trainer.documents import read_yaml
from trainer.errors import BabelrecError
from trainer.files import write_text

CONFIGS = Path("configs/baselines")
BASELINES = {
    baseline.name: baseline
    for baseline in (
        *(POPULARITY, POPULARITY_BY_MARKET, ALS, BPR, EASE, EASE_OF_FREQUENT, ITEM_KNN, RECENT_KNN, SASREC, GRU4REC),
        *(TWO_TOWER, MEAN_HISTORY),
    )
}


class Chosen(Settings):
    """The best settings of one baseline and their quality.

    Attributes:
        settings: Fields of the baseline's settings class.
        validation: Metric -> mean over the seeds on the validation part.
        tried: Number of combinations tried.
    """

    settings: dict[str, Any]
    validation: dict[str, float]
    tried: int = Field(ge=1)


class BaselinesConfig(Settings):
    """One file.

    Attributes:
        data: The config whose `data` section is used, as a path from the repository root.
        train_users: Share of users to train on.
        seeds: A candidate's metric is the mean over these.
        search: Baseline -> setting -> values; every combination is tried.
        chosen: Baseline -> outcome; written by the search.
    """

    data: str
    train_users: float = 1.0
    seeds: list[int] = Field([42], min_length=1)
    search: dict[str, dict[str, list[Any]]]
    chosen: dict[str, Chosen] = Field({})

    def candidates(self, baseline: Baseline) -> list[Settings]:
        """All combinations for a baseline; only its defaults if nothing is searched.

        Raises:
            BabelrecError: a setting that the baseline does not have, or a value of the wrong type.
        """
        space = self.search.get(baseline.name, {})
        combinations = itertools.product(*space.values())
        return [parse(baseline, dict(zip(space, values, strict=True))) for values in combinations]

    def settings(self, baseline: Baseline) -> Settings:
        """The settings chosen by the search.

        Raises:
            BabelrecError: it has not been searched.
        """
        if not self.search.get(baseline.name):
            return parse(baseline, {})
        if baseline.name not in self.chosen:
            raise BabelrecError(
                f"The settings of {baseline.name} have not been searched. Run: python -m benchmarks.quality --search"
            )
        return parse(baseline, self.chosen[baseline.name].settings)


def parse(baseline: Baseline, settings: Mapping[str, Any]) -> Settings:
    """Checked settings of a baseline.

    Raises:
        BabelrecError: an unknown or missing setting, or a wrong type.
    """
    try:
        return baseline.settings.model_validate(settings)
    except ValidationError as error:
        raise BabelrecError(f"Settings {dict(settings)} of {baseline.name}: {error}") from error


def load(name: str) -> BaselinesConfig:
    """Reads configs/baselines/<name>.yaml.

    Raises:
        BabelrecError: missing, invalid, or with an unknown baseline.
    """
    path = CONFIGS / f"{name}.yaml"
    config = read_yaml(
        path,
        TypeAdapter(BaselinesConfig),
        what="the baseline settings",
        remedy="see the other files of configs/baselines.",
    )
    unknown = sorted((config.search.keys() | config.chosen.keys()) - BASELINES.keys())
    if unknown:
        raise BabelrecError(f"{path} has the unknown baseline {unknown[0]!r}; available: {', '.join(BASELINES)}.")
    return config


def save_chosen(name: str, chosen: Mapping[str, Chosen]) -> None:
    """Writes outcomes to the file, below the search, whose text and comments are kept."""
    path = CONFIGS / f"{name}.yaml"
    merged = load(name).chosen | dict(chosen)
    kept, _, _ = path.read_text(encoding="utf-8").partition("\nchosen:")
    ordered = {baseline: merged[baseline].model_dump(mode="json") for baseline in BASELINES if baseline in merged}
    block = yaml.safe_dump({"chosen": ordered}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    write_text(path, kept.rstrip("\n") + "\n" + block)
