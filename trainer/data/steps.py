"""How many steps an epoch has, and how many positives a step shows."""

from dataclasses import dataclass
from typing import Final

from trainer.training.settings import TrainingConfig

# Fewer rows make a noisy gradient, and hardly any negatives of each other.
_SMALLEST_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Steps:
    """Attributes:
    batch_size: Positives of a step.
    per_epoch: Steps of an epoch.
    """

    batch_size: int
    per_epoch: int

    @classmethod
    def plan(cls, positives: int, config: TrainingConfig) -> "Steps":
        """Batches as large as set, unless an epoch would have too few of them.

        An optimizer needs steps, however few the data: with 2,000 positives, batches of 512 would make 80 steps of 20
        epochs. So batches shrink until an epoch has ``min_epoch_steps``; with very few positives it shows them more
        than once.

        Args:
            positives: Of the training part, at least 1.
            config: ``batch_size``, ``min_epoch_steps`` and ``epoch_steps``.
        """
        least = config.min_epoch_steps
        size = min(config.batch_size, max(_SMALLEST_BATCH, positives // least)) if least > 1 else config.batch_size
        return cls(size, config.epoch_steps or max(least, positives // size))
