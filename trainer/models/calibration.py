"""Calibrated probabilities: a head's logit is scaled and shifted before the sigmoid."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from trainer.errors import BabelrecError
from trainer.runs import Run

if TYPE_CHECKING:
    import tensorflow as tf

CALIBRATION_FILE: Final = "calibration.json"
Method = Literal["none", "temperature", "platt"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probability = sigmoid(logit / temperature + bias).

    ``bias = 0`` is temperature scaling (Guo et al., 2017, arXiv 1706.04599), which leaves a probability of one half
    unchanged; with a bias it is Platt's sigmoid (1999). Neither changes the order of two items of one head.

    Attributes:
        temperature: Above 0.
        bias: In logits.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError(f"a temperature must be above 0, received {self.temperature}")

    def logits(self, raw: "tf.Tensor | npt.NDArray[np.floating]") -> "tf.Tensor | npt.NDArray[np.floating]":
        """Calibrated logits of raw ones: a tensor or an array of any shape."""
        return raw / self.temperature + self.bias


IDENTITY: Final = Calibration()


@dataclass(frozen=True, slots=True)
class FittedCalibration:
    """The calibrations fitted for one head on the validation part.

    Attributes:
        method: The method used for predictions.
        temperature: Temperature scaling.
        platt: Platt's sigmoid.
        events: Number of labelled pairs that both were fitted on.
        positives: Number of positive ones.
        log_loss: Method -> mean log loss on those pairs (nats).
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    method: Method
    temperature: Calibration
    platt: Calibration
    events: int
    positives: int
    log_loss: dict[Method, float]

    @property
    def methods(self) -> dict[Method, Calibration]:
        """Every method's calibration; only ``none`` if nothing could be fitted."""
        if self.method == "none":
            return {"none": IDENTITY}
        return {"none": IDENTITY, "temperature": self.temperature, "platt": self.platt}

    @property
    def applied(self) -> Calibration:
        """The calibration of the chosen method."""
        return self.methods[self.method]


Calibrations = dict[str, FittedCalibration]
"""Head -> its fitted calibrations."""

_ADAPTER: TypeAdapter[Calibrations] = TypeAdapter(Calibrations)


def load_calibrations(run: Run) -> Calibrations:
    """A run's ``calibration.json``; empty if there is none, as in runs without a validation part.

    Raises:
        BabelrecError: the record is broken.
    """
    if not (run.path / CALIBRATION_FILE).exists():
        return {}
    try:
        return _ADAPTER.validate_python(run.read(CALIBRATION_FILE))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BabelrecError(
            f"{run.path / CALIBRATION_FILE}: {place}: {first['msg']}. Remove it to predict without calibration, or "
            "train the run again."
        ) from error


def save_calibrations(run: Run, calibrations: Calibrations) -> None:
    """Writes ``calibration.json``, atomically."""
    run.write(CALIBRATION_FILE, {name: asdict(each) for name, each in calibrations.items()})
