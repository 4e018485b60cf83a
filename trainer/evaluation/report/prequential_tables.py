"""What learning on costs and gains, as rows of a table for Markdown and for the terminal."""

from typing import Final

from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.prequential.result import PrequentialResult
from trainer.evaluation.report.head_tables import Row

PREQUENTIAL_HEADER: Final = (
    *("model", "first model, s", "later models, s"),
    *("Recall@10 ratio", "NDCG@10 ratio", "seconds ratio"),
)
PREQUENTIAL_NOTE: Final = (
    "Processor seconds (user and system) of training, and ratios: the updated model's figures divided by each model's. "
    "The first model is common to all but popularity, and is left out of the ratio of seconds."
)
_RATIOS: Final = ("recall@10", "ndcg@10", "processor_seconds")


def prequential_rows(result: PrequentialResult) -> list[Row]:
    """One row of `PREQUENTIAL_HEADER` for each model."""
    rows: list[Row] = []
    for model, (first, *later) in result.processor_seconds.items():
        ratios: dict[str, Metric] = result.ratios.get(model, {})
        rows.append(([model, f"{first:,.1f}", f"{sum(later):,.1f}"], [ratios.get(name) for name in _RATIOS]))
    return rows
