"""Recommendations that were shown."""

from collections.abc import Sequence

from serving.service.store.part import Part
from serving.service.types import ShownRecommendation


class Recommendations(Part):
    """Recommendations that were shown."""

    def log_recommendations(self, shown: Sequence[ShownRecommendation]) -> None:
        """Stores answers in one transaction; one whose id is there already changes nothing."""
        raise NotImplementedError

    def recommendation(self, recommendation_id: str) -> ShownRecommendation | None:
        """An answer; None if there is none."""
        raise NotImplementedError

    def drop_recommendations(self, older_than: int) -> int:
        """Deletes answers from before a time, unix seconds; returns how many."""
        raise NotImplementedError
