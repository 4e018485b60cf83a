"""Settings that can't hold together."""

from trainer.config.settings import Config
from trainer.errors import BabelrecError


def check_goes_together(config: Config) -> None:
    """Refuses settings that can't hold together, before anything is trained by them.

    Not part of the validation: a run's `model` may come from another run (`finetune`), and what a finished run was
    trained with must stay readable.

    Raises:
        BabelrecError: with the settings and the remedy.
    """
    model, training = config.model, config.training
    if training.popularity_factors and not model.candidate.popularity:
        raise BabelrecError(
            "training.popularity_factors are chosen for model.candidate.popularity, which is off. Set it to true, or "
            "leave them out."
        )
    if model.linear.new_items != 1.0 and not (model.linear.rank and model.candidate.neighbours.enabled):
        raise BabelrecError(
            "model.linear.new_items stretches what model.candidate.neighbours gives new items of the linear model. "
            "Set model.linear.rank and model.candidate.neighbours.enabled, or leave it out."
        )
    if training.alignment.co_consumed is not None and not config.learns_from_pairs:
        raise BabelrecError(
            "training.alignment.co_consumed adds pairs to align, and nothing is aligned. Set "
            "training.alignment.weight, or leave it out."
        )
