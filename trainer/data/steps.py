"""Steps per epoch and positives per step."""

from dataclasses import dataclass
from typing import Final

from trainer.errors import BabelrecError
from trainer.training.settings import TrainingConfig

# Fewer rows make a noisy gradient, and hardly any in-batch negatives.
_SMALLEST_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Steps:
    """Attributes:
    batch_size: Positives per step.
    per_epoch: Steps per epoch.
    """

    batch_size: int
    per_epoch: int

    @classmethod
    def plan(cls, positives: int, config: TrainingConfig, replicas: int = 1) -> "Steps":
        """Uses the configured batch size, unless an epoch would have too few batches.

        An optimizer needs steps, however little data there is: with 2,000 positives, batches of 512 would make 80 steps
        in 20 epochs. So batches shrink until an epoch has ``min_epoch_steps``; with very few positives it repeats them.

        Args:
            positives: Number in the training part, at least 1.
            config: ``batch_size``, ``min_epoch_steps`` and ``epoch_steps``.
            replicas: Equal parts that a batch is cut into. A batch that was shrunk is shrunk further until it can be.

        Raises:
            BabelrecError: the configured size can't be cut into equal parts.
        """
        if config.batch_size % replicas:
            near = max(config.batch_size // replicas, 1) * replicas
            raise BabelrecError(
                f"training.batch_size is {config.batch_size}, which {replicas} devices can't share equally. "
                f"Remedy: set it to a multiple of {replicas}, such as {near}."
            )
        least = config.min_epoch_steps
        size = min(config.batch_size, max(_SMALLEST_BATCH, positives // least)) if least > 1 else config.batch_size
        size = max(size - size % replicas, replicas)
        return cls(size, config.epoch_steps or max(least, positives // size))
