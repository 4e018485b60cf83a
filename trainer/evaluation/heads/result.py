"""What `evaluation.json` holds of one ranking head."""

from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import ConfigDict

from trainer.evaluation.metrics.per_user import Metric
from trainer.models.calibration import Calibration

_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs of about one predicted probability: their number, mean prediction and share of positives."""

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
        users: Users with such events.
        pairs: Labelled pairs of a user and an item.
        metrics: Binary: ``auc`` and ``average_precision``, where there are both classes. Regression: ``rmse``, ``mae``
            in label units, and ``rmse_of_mean``, of predicting these labels' own mean.
        positives: Binary: pairs that are positive.
        applied: Binary: the calibration of the predictions that are served.
        calibrations: Method -> temperature and bias.
        probabilities: Method -> ``log_loss``, ``brier``, ``ece``, ``ece_equal_mass``. ``constant`` predicts the share
            of positives for every pair: what knowing nothing of user and item gives.
        reliability: Method -> bins of equal width that hold pairs, for ``none`` and the applied one.
        precision_recall: (recall, precision), recall falling.
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
