"""Whether people are pleased: what became of answers, figures with intervals, and what has changed (docs/metrics.md).

``reading`` takes a period from the store, ``attribution`` finds what became of each answer.
"""

from serving.service.outcomes.attribution import Attributed, attribute
from serving.service.outcomes.reading import OutcomeStore, Period, read_period
from serving.service.outcomes.settings import OutcomeSettings

__all__ = ["Attributed", "OutcomeSettings", "OutcomeStore", "Period", "attribute", "read_period"]
