"""A suite: one data set under one protocol, and the models evaluated by it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SEEDS = (42, 43, 44)
OURS = "babelrec"


@dataclass(frozen=True)
class Model:
    """One row group of the table.

    Attributes:
        name: `babelrec`, or a baseline's name.
        measure: Seed -> metric -> value.
        facts: What the metrics depend on besides seed and sources: settings, data. JSON-serialisable; called only when
            the model is selected, and may raise.
        sources: Globs of the source files that the metrics depend on.
        seeds: The seeds to run; one for a deterministic model.
    """

    name: str
    measure: Callable[[int], Mapping[str, float]]
    facts: Callable[[], Mapping[str, Any]]
    sources: tuple[str, ...]
    seeds: tuple[int, ...] = SEEDS


@dataclass(frozen=True)
class Suite:
    """One section of the table.

    Attributes:
        data: Name of the data.
        protocol: As in docs/evaluation.md, with its variant.
        title: Title of the section.
        models: Ours first.
        headline: The metric of the plot.
    """

    data: str
    protocol: str
    title: str
    models: tuple[Model, ...]
    headline: str = "recall@10"
