"""Recommendations that were shown."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from serving.service.store import limits, schema
from serving.service.store.part import Part
from serving.service.store.statements import insert_many, keep
from serving.service.types import ShownRecommendation

_shown = schema.recommendations.c


class Recommendations(Part):
    """Recommendations that were shown."""

    def log_recommendations(self, shown: Sequence[ShownRecommendation]) -> None:
        """Stores answers in one transaction; one whose id is there already changes nothing."""
        bodies = limits.each("recommendations", shown, limits.check_shown)
        rows = {
            each.recommendation_id: {
                "recommendation_id": each.recommendation_id,
                "timestamp": each.timestamp,
                "user_id": each.user_id,
                "session_id": each.session_id,
                "body": body,
            }
            for each, body in zip(shown, bodies, strict=True)
        }
        if not rows:
            return
        with self._database.writing() as connection:
            ordered = [rows[key] for key in sorted(rows)]
            insert_many(connection, schema.recommendations, ordered, keep, _shown.timestamp)

    def recommendation(self, recommendation_id: str) -> ShownRecommendation | None:
        """An answer; None if there is none."""
        limits.check_id("recommendation_id", recommendation_id)
        query = sa.select(_shown.body).where(_shown.recommendation_id == recommendation_id)
        with self._database.reading() as connection:
            body = connection.execute(query).scalar_one_or_none()
        return None if body is None else msgspec.json.decode(body, type=ShownRecommendation)

    def drop_recommendations(self, older_than: int) -> int:
        """Deletes answers from before a time, unix seconds; returns how many."""
        with self._database.writing() as connection:
            return connection.execute(sa.delete(schema.recommendations).where(_shown.timestamp < older_than)).rowcount
