"""Fits each binary head's temperature, and a bias if it clearly helps, on the validation part.

The evaluated model has not been trained on the validation part. With ``training.refit`` the served model has; it
uses the calibration found before, as it does for the number of epochs and the blend.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from trainer.data.heads import Head
from trainer.models.calibration import IDENTITY, Calibration, Calibrations, FittedCalibration, Method

_LOG = logging.getLogger(__name__)
_Floats = npt.NDArray[np.floating]
# A bias is kept if twice its gain in log likelihood exceeds this: the 99.9 % point of chi-squared with one degree
# of freedom, the distribution of that gain if no bias is needed (Wilks, 1938).
_CLEARLY: Final = 10.83
# With fewer of either class, probabilities can't be calibrated.
_LEAST: Final = 10
# The temperature is searched between exp(-5) and exp(5).
_RANGE: Final = 5.0
_TITLES: Final[dict[Method, str]] = {"temperature": "temperature scaling", "platt": "Platt scaling"}


def fit_calibration(logits: _Floats, labels: _Floats) -> FittedCalibration:
    """Temperature scaling and Platt scaling of one binary head by maximum likelihood.

    Targets are (P + 1) / (P + 2) and 1 / (N + 2) for P positives and N negatives, as in Platt (1999, section 2.2),
    so that separable data don't lead to a temperature of 0.

    Args:
        logits: Float [E].
        labels: [E] of 0 and 1.

    Raises:
        ValueError: shapes differ, or a value is not finite or not a label.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    if logits.ndim != 1 or logits.shape != labels.shape:
        raise ValueError(f"expected logits and labels of the same length, received {logits.shape} and {labels.shape}")
    if not np.isfinite(logits).all() or not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError("logits must be finite and labels 0 or 1")
    positives = int(labels.sum())
    negatives = labels.size - positives
    if min(positives, negatives) < _LEAST:
        return FittedCalibration("none", IDENTITY, IDENTITY, labels.size, positives, {})
    targets = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scaled = _fit(logits, targets, with_bias=False)
    platt = _fit(logits, targets, with_bias=True)
    gain = 2 * labels.size * (_log_loss(scaled, logits, targets) - _log_loss(platt, logits, targets))
    method: Method = "platt" if gain > _CLEARLY else "temperature"
    found = FittedCalibration(method, scaled, platt, labels.size, positives, {})
    losses = {name: _log_loss(each, logits, labels) for name, each in found.methods.items()}
    return replace(found, log_loss=losses)


def calibrate(heads: Sequence[Head], outputs: _Floats, labels: _Floats) -> Calibrations:
    """Calibrates each binary head.

    Args:
        heads: Heads of the model.
        outputs: Raw outputs [E, heads] on the validation part's events.
        labels: [E, heads], NaN if unknown.
    """
    found: Calibrations = {}
    for column, head in enumerate(heads):
        if head.kind != "binary":
            continue
        known = np.isfinite(labels[:, column])
        fitted = fit_calibration(outputs[known, column], labels[known, column])
        found[head.name] = fitted
        if fitted.method == "none":
            _LOG.info("%s: too few validation events for calibration.", head.output)
        else:
            _LOG.info(
                "%s: %s: sigmoid(logit / %.3f %s %.3f); validation log loss %.4f -> %.4f.",
                head.output,
                _TITLES[fitted.method],
                fitted.applied.temperature,
                "-" if fitted.applied.bias < 0 else "+",
                abs(fitted.applied.bias),
                fitted.log_loss["none"],
                fitted.log_loss[fitted.method],
            )
    return found


def _fit(logits: _Floats, targets: _Floats, *, with_bias: bool) -> Calibration:
    def loss(parameters: _Floats) -> tuple[float, _Floats]:
        # Optimises the logarithm of the slope: a negative slope would invert the head.
        slope, bias = math.exp(parameters[0]), parameters[1] if with_bias else 0.0
        margin = slope * logits + bias
        error = expit(margin) - targets
        gradient = [float(np.mean(error * logits)) * slope, float(np.mean(error))]
        value = float(np.mean(np.logaddexp(0.0, margin) - targets * margin))
        return value, np.array(gradient[: len(parameters)])

    start = np.zeros(2 if with_bias else 1)
    bounds = [(-_RANGE, _RANGE), (None, None)][: start.size]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-9, "ftol": 1e-14})
    return Calibration(math.exp(-float(found.x[0])), float(found.x[1]) if with_bias else 0.0)


def _log_loss(calibration: Calibration, logits: _Floats, targets: _Floats) -> float:
    margin = calibration.logits(logits)
    return float(np.mean(np.logaddexp(0.0, margin) - targets * margin))
