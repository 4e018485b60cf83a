"""The result of one ranking head in `evaluation.json`."""

from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import ConfigDict

from trainer.evaluation.metrics.per_user import Metric
from trainer.models.calibration import Calibration

_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs with similar predicted probability: their number, mean prediction and share of positives."""

    __pydantic_config__ = _STRICT

    pairs: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class HeadResult:
    """One head on the held-out events.

    Attributes:
        output: Name of the prediction, such as ``probability_like``.
        kind: ``binary`` or ``regression``.
        users: Number of users with such events.
        pairs: Number of labelled user-item pairs.
        metrics: Binary: ``auc`` and ``average_precision``, if there are both classes. Regression: ``rmse``, ``mae``
            in label units, and ``rmse_of_mean``, for predicting these labels' own mean.
        positives: Binary: number of positive pairs.
        applied: Binary: the calibration of the predictions that are served.
        calibrations: Method -> temperature and bias.
        probabilities: Method -> ``log_loss``, ``brier``, ``ece``, ``ece_equal_mass``. ``constant`` predicts the share
            of positives for every pair: the baseline without any knowledge of user and item.
        reliability: Method -> non-empty bins of equal width, for ``none`` and the applied one.
        precision_recall: (recall, precision) points, by decreasing recall.
    """

    __pydantic_config__ = _STRICT

    output: str
    kind: Literal["binary", "regression"]
    users: int
    pairs: int
    metrics: dict[str, Metric]
    positives: int | None = None
    applied: str | None = None
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    probabilities: dict[str, dict[str, Metric]] = field(default_factory=dict)
    reliability: dict[str, list[ReliabilityBin]] = field(default_factory=dict)
    precision_recall: list[tuple[float, float]] = field(default_factory=list)
