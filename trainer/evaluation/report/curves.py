"""A curve of a run's training."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """A validation metric after each epoch: (epoch from 1, value)."""

    metric: str
    values: list[tuple[int, float]]
