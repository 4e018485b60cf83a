"""The ranking heads' quality as rows of a table, for Markdown and for the terminal."""

from collections.abc import Mapping

from trainer.evaluation.heads.result import HeadResult
from trainer.evaluation.metrics.per_user import Metric

METHOD_LABELS = {"constant": "constant", "none": "uncalibrated", "temperature": "temperature", "platt": "Platt"}

ORDER_HEADER = ("prediction", "pairs", "positive", "AUC", "AP", "RMSE", "MAE")
PROBABILITY_HEADER = ("prediction", "calibration", "log loss", "Brier", "ECE", "ECE mass")
NOTES = {
    "AUC": "probability that a positive pair is scored above a negative one, over all users' pairs together; 0.5 for "
    "random scores",
    "AP": "average precision: mean share of positives among the pairs predicted highest; the overall share if random",
    "RMSE, MAE": "root mean square and mean absolute error, in units of the labels, such as stars",
    "log loss, Brier": "error of the predicted probabilities; lower is better",
    "ECE": "mean gap between predicted probability and share of positives, over 15 bins of equal width (mass: of "
    "equally many pairs)",
}


Row = tuple[list[str], list[Metric | None]]
"""Text cells, then numeric cells."""


def order_rows(heads: Mapping[str, HeadResult]) -> list[Row]:
    """One row of `ORDER_HEADER` for each head."""
    return [
        (
            [head.output, f"{head.pairs:,}", "" if head.positives is None else f"{head.positives / head.pairs:.1%}"],
            [head.metrics.get(name) for name in ("auc", "average_precision", "rmse", "mae")],
        )
        for head in heads.values()
    ]


def probability_rows(heads: Mapping[str, HeadResult]) -> list[Row]:
    """Rows of `PROBABILITY_HEADER`: one per method and binary head; the served one is marked."""
    rows = []
    for head in heads.values():
        for method, metrics in head.probabilities.items():
            label = METHOD_LABELS.get(method, method)
            found = head.calibrations.get(method)
            if found is not None and method != "none":
                label += f" (T {found.temperature:.2f}" + (f", {found.bias:+.2f})" if found.bias else ")")
            if method == head.applied:
                label += " - served"
            names = ("log_loss", "brier", "ece", "ece_equal_mass")
            rows.append(([head.output, label], [metrics.get(name) for name in names]))
    return rows
