"""A suite: one data set under one protocol, and the models evaluated by it."""

from dataclasses import dataclass

from benchmarks.harness.store import Model

OURS = "babelrec"


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
