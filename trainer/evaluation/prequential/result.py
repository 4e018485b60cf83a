"""The result of learning on, window by window, in `evaluation.json`."""

from dataclasses import dataclass
from typing import Final

from pydantic import ConfigDict

from trainer.evaluation.metrics.per_user import Metric

_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class PrequentialResult:
    """What learning on costs, and what it gains.

    Attributes:
        processor_seconds: Model -> its processor seconds (user and system) before each window. The first model is
            common to all but popularity.
        ratios: Other model -> metric -> the updated model's average over the other's. For ``retrained`` also
            ``processor_seconds``, summed over the windows after the first, whose model is common to both.
    """

    __pydantic_config__ = _STRICT

    processor_seconds: dict[str, list[float]]
    ratios: dict[str, dict[str, Metric]]
