"""Checks for incompatible settings."""

from trainer.config.settings import Config
from trainer.errors import BabelrecError


def check_compatible(config: Config) -> None:
    """Refuses incompatible settings before anything is trained with them.

    Not part of the validation: a run's `model` may come from another run (`finetune`), and what a finished run was
    trained with must remain readable.

    Raises:
        BabelrecError: states the settings and the remedy.
    """
    model, training = config.model, config.training
    if training.popularity_factors and not model.candidate.popularity:
        raise BabelrecError(
            "training.popularity_factors are chosen for model.candidate.popularity, which is off. Set it to true, or "
            "remove them."
        )
    if model.linear.new_items != 1.0 and not (model.linear.rank and model.candidate.neighbours.enabled):
        raise BabelrecError(
            "model.linear.new_items scales new items' linear model vectors from model.candidate.neighbours. "
            "Set model.linear.rank and model.candidate.neighbours.enabled, or remove it."
        )
    if training.alignment.co_consumed is not None and not config.learns_from_pairs:
        raise BabelrecError(
            "training.alignment.co_consumed adds pairs to align, but nothing is aligned. Set "
            "training.alignment.weight, or remove it."
        )
