"""Whether people are pleased: what became of answers, figures with intervals, and what has changed (docs/metrics.md).

``reading`` takes a period from the store, ``attribution`` finds what became of each answer, ``measuring`` makes figures
of it, ``sums`` their intervals, ``report`` puts them together.
"""

from serving.service.outcomes.attribution import Attributed, attribute
from serving.service.outcomes.reading import OutcomeStore, Period, read_period
from serving.service.outcomes.report import Report, Slice, report_of
from serving.service.outcomes.settings import OutcomeSettings
from serving.service.outcomes.sums import Figure, PersonSums, Scale, figure

__all__ = [
    "Attributed",
    "Figure",
    "OutcomeSettings",
    "OutcomeStore",
    "Period",
    "PersonSums",
    "Report",
    "Scale",
    "Slice",
    "attribute",
    "figure",
    "read_period",
    "report_of",
]
