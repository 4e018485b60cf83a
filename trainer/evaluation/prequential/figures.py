"""Averages over events, then over windows, with intervals from resampled users."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.evaluation.metrics.intervals import bootstrap_ratios, percentile_interval
from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report.contents import Metrics

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """One window's events and what each model's answers are worth.

    Attributes:
        users: Int64 [E], index of each event's user.
        values: Model -> metric -> float64 [E].
    """

    users: npt.NDArray[np.int64]
    values: Mapping[str, Mapping[str, _Floats]]


class Figures:
    """Averages of M models' metrics over W windows, and of B resamples of the users.

    The events of a user depend on each other, so users are drawn, each with all events in all windows; the draws are
    the same for every model, so that comparisons are paired.

    Args:
        windows: W windows, each with the same models and metrics.
        users: Number of users.
        resamples: B.
        seed: Of the draws.
    """

    def __init__(self, windows: Sequence[Answered], users: int, *, resamples: int, seed: int) -> None:
        values = windows[0].values
        self.models = list(values)
        self.metrics = list(next(iter(values.values())))
        columns = [
            (window, window.values[model][metric])
            for window in windows
            for model in self.models
            for metric in self.metrics
        ]
        sums = _by_user(columns, users)
        counts = _by_user([(window, np.ones(len(value))) for window, value in columns], users)
        shape = (len(windows), len(self.models), len(self.metrics))
        self._values = (sums.sum(axis=0) / counts.sum(axis=0)).reshape(1, *shape)
        self._draws = bootstrap_ratios(sums, counts, resamples=resamples, seed=seed).reshape(-1, *shape)

    def of_window(self, window: int, model: str) -> Metrics:
        """A model's averages over a window's events."""
        return self._figures(lambda found: found[:, window, self.models.index(model)])

    def overall(self, model: str) -> Metrics:
        """A model's averages over the windows of those averages."""
        return self._figures(lambda found: self._overall(found, model))

    def difference(self, model: str, other: str) -> Metrics:
        """The first model's overall averages minus the second's."""
        return self._figures(lambda found: self._overall(found, model) - self._overall(found, other))

    def ratio(self, model: str, other: str) -> Metrics:
        """The first model's overall averages over the second's; without those that are 0 for the second."""

        def ratios(found: _Floats) -> _Floats:
            below = self._overall(found, other)
            return self._overall(found, model) / np.where(below > 0.0, below, np.nan)

        return self._figures(ratios)

    def _overall(self, found: _Floats, model: str) -> _Floats:
        # A draw may have no event in a window with few users.
        averages: _Floats = np.nanmean(found[:, :, self.models.index(model)], axis=1)
        return averages

    def _figures(self, take: Callable[[_Floats], _Floats]) -> Metrics:
        values, intervals = take(self._values)[0], percentile_interval(take(self._draws))
        return {
            name: Metric(float(value), (float(low), float(high)))
            for name, value, (low, high) in zip(self.metrics, values, intervals, strict=True)
            if np.isfinite(value)
        }


def _by_user(columns: Sequence[tuple[Answered, _Floats]], users: int) -> _Floats:
    """Each user's sums of the events' values, [users, columns]."""
    sums: _Floats = np.stack([np.bincount(window.users, value, users) for window, value in columns], axis=1)
    return sums
