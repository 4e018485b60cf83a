"""Figures of outcomes, for Prometheus."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.service.outcomes import Slice, Watcher

_LABELS: Final = ("model_version", "language")
_OTHER: Final = "other"


class OutcomeGauges(Collector):
    """The newest report of a watcher; without one there are no samples, so that nothing old is shown.

    A figure without an interval has no `_low` and `_high`.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the report."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The report's figures."""
        figures = ("metric", *_LABELS)
        value = GaugeMetricFamily("babelrec_service_outcome", "Figure of what people did with answers", labels=figures)
        low = GaugeMetricFamily("babelrec_service_outcome_low", "Lower end of the 95 % interval", labels=figures)
        high = GaugeMetricFamily("babelrec_service_outcome_high", "Upper end of the 95 % interval", labels=figures)
        answers = GaugeMetricFamily("babelrec_service_outcome_answers", "Answers of the figures", labels=_LABELS)
        people = GaugeMetricFamily("babelrec_service_outcome_people", "People of the figures", labels=_LABELS)
        uncounted = GaugeMetricFamily(
            "babelrec_service_outcome_uncounted_events", "Events that count for no answer", labels=["reason"]
        )
        report = self._watcher.report
        for each in report.slices if report is not None else ():
            labels = _labels(each)
            answers.add_metric(labels, each.answers)
            people.add_metric(labels, each.people)
            for name, figure in each.metrics.items():
                for family, number in ((value, figure.value), (low, figure.low), (high, figure.high)):
                    if number is not None:
                        family.add_metric([name, *labels], number)
        yield from (value, low, high, answers, people)
        if report is not None:
            for reason, count in report.uncounted.items():
                uncounted.add_metric([reason], count)
            yield uncounted
            made = GaugeMetricFamily("babelrec_service_outcome_made_seconds", "Unix time of the figures")
            made.add_metric([], report.now)
            yield made


def _labels(part: Slice) -> list[str]:
    return [_OTHER, _OTHER] if part.rest else [part.labels["version"], part.labels["language"]]
