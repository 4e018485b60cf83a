"""Whether people are pleased: what became of answers, figures with intervals, and what has changed (docs/metrics.md).

``reading`` takes a period from the store, ``attribution`` finds what became of each answer, ``measuring`` makes figures
of it, ``sums`` their intervals, ``report`` puts them together; ``drift`` compares two periods. ``computing`` does
all of it for a question, ``apart`` in a process of its own; ``asking`` keeps answers, ``watching`` asks in the
background.
"""

from serving.service.outcomes.apart import Apart
from serving.service.outcomes.asking import Outcomes
from serving.service.outcomes.attribution import Attributed, attribute
from serving.service.outcomes.computing import Computation
from serving.service.outcomes.drift import Change, Drift
from serving.service.outcomes.measuring import METRICS
from serving.service.outcomes.reading import OutcomeStore, Period, read_period
from serving.service.outcomes.report import Report, Slice, report_of
from serving.service.outcomes.settings import OutcomeSettings
from serving.service.outcomes.sums import Figure, PersonSums, Scale, figure
from serving.service.outcomes.watching import Watcher

__all__ = [
    "METRICS",
    "Apart",
    "Attributed",
    "Change",
    "Computation",
    "Drift",
    "Figure",
    "OutcomeSettings",
    "OutcomeStore",
    "Outcomes",
    "Period",
    "PersonSums",
    "Report",
    "Scale",
    "Slice",
    "Watcher",
    "attribute",
    "figure",
    "read_period",
    "report_of",
]
