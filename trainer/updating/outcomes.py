"""What people did with the service's answers, in TensorBoard next to the training curves (docs/metrics.md)."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import tensorflow as tf

from serving.service.errors import ServiceError
from serving.service.outcomes import OutcomeSettings, Report
from serving.service.outcomes.computing import Computation, ReportQuestion
from serving.service.outcomes.watching import BY, MOST_SLICES
from serving.service.store import Store, StoreError

_LOG = logging.getLogger(__name__)
FOLDER: Final = "service"
"""In the run directory."""
# Three runs with the same tags: TensorBoard draws them as one figure with its interval.
_RUNS: Final = {"value": "", "low": "interval_low", "high": "interval_high"}
_ALL, _REST, _UNKNOWN = "all", "rest", "unknown"


@dataclass
class OutcomeCurves:
    """Writes figures of the last hours as scalars, again and again.

    The scalars are ``METRIC/all`` and ``METRIC/VERSION/LANGUAGE``, their steps unix seconds, in the runs ``service``
    and, for the ends of the intervals, ``service/interval_low`` and ``service/interval_high``. When the last ones were
    written is seen by the files, so that a loop that is started again, or by a timer, writes no more often.

    Attributes:
        store: Of the service.
        run_dir: Below which the files are.
        every: Seconds between two writings; 0: never.
        hours: That the figures are of.
    """

    store: Store
    run_dir: Path
    every: float
    hours: float
    _writers: dict[str, tf.summary.SummaryWriter] = field(default_factory=dict, init=False)

    def write_if_due(self, now: float) -> bool:
        """Writes if the last time is long enough ago; whether it did.

        A store that can't be read, or has too many answers, is logged: updates matter more than curves.

        Args:
            now: Unix seconds.
        """
        if not self.every or now - self._last_written() < self.every:
            return False
        question = ReportQuestion(now - 3600 * self.hours, now, BY, complete=False, most_slices=MOST_SLICES)
        try:
            report = Computation(self.store, OutcomeSettings()).report(question)
        except (ServiceError, StoreError) as error:
            _LOG.warning("There are no figures of outcomes for TensorBoard: %s", error)
            return False
        scalars = list(_scalars(report))
        for kind, run in _RUNS.items():
            writer = self._writer(run)
            with writer.as_default(step=int(now)):
                for tag, ends in scalars:
                    number = ends[kind]
                    if number is not None:
                        tf.summary.scalar(tag, number)
            writer.flush()
        return True

    def _writer(self, run: str) -> tf.summary.SummaryWriter:
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(str(self.run_dir / FOLDER / run))
        return self._writers[run]

    def _last_written(self) -> float:
        """Unix seconds; 0 if nothing was."""
        return max((path.stat().st_mtime for path in (self.run_dir / FOLDER).glob("events.out.*")), default=0.0)


def _scalars(report: Report) -> Iterator[tuple[str, Mapping[str, float | None]]]:
    """Tag, and figure with the ends of its interval."""
    for part in (report.all, *report.slices):
        if part is report.all:
            name = _ALL
        elif part.rest:
            name = _REST
        else:
            name = "/".join(part.labels[column] or _UNKNOWN for column in BY)
        for metric, figure in part.metrics.items():
            yield f"{metric}/{name}", {"value": figure.value, "low": figure.low, "high": figure.high}
