"""Every setting of a run, typed and strict.

A run is one YAML file (see ``configs/``). Each part's settings, with their defaults, are in a module of that part.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from trainer.config.base import Settings
from trainer.data.settings import DataConfig
from trainer.documents import dump_yaml
from trainer.evaluation.settings import EvaluationConfig
from trainer.export.settings import ExportConfig
from trainer.models.settings import ModelConfig
from trainer.text.settings import TextConfig
from trainer.training.settings import TrainingConfig
from trainer.updating.settings import UpdateConfig


class Config(Settings):
    """One experiment."""

    name: str = Field(
        "babelrec", pattern=r"^[A-Za-z0-9._-]+$", description="Name of the model in reports and the model card."
    )
    seed: int = Field(42, ge=0, description="Seed of everything random: batches, weights, sampling.")
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()
    update: UpdateConfig = UpdateConfig()

    @property
    def learns_from_pairs(self) -> bool:
        """Whether training reads parallel texts."""
        return self.training.alignment.weight > 0.0 or self.model.conversion.rotates


def dump_config(config: Config) -> str:
    """The resolved settings as YAML, with all defaults; `load_config` reads it back."""
    return dump_yaml(config.model_dump(mode="json"))


def flat_settings(config: Config) -> dict[str, str | int | float | bool]:
    """Every setting by its dotted name; lists, paths and null as text."""
    return dict(_flat(config.model_dump(mode="json"), ""))


def _flat(section: Mapping[str, Any], prefix: str) -> list[tuple[str, str | int | float | bool]]:
    found: list[tuple[str, str | int | float | bool]] = []
    for key, value in section.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value if isinstance(value, str | int | float | bool) else str(value)))
    return found
