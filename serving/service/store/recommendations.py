"""Recommendations that were shown."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from serving.service.store import limits, people, schema
from serving.service.store.part import Part
from serving.service.store.statements import insert_many, keep
from serving.service.store.steps import step
from serving.service.types import ShownRecommendation

_shown = schema.recommendations.c


class Recommendations(Part):
    """Recommendations that were shown."""

    def log_recommendations(self, shown: Sequence[ShownRecommendation], erasures: str = "") -> None:
        """Stores answers in one transaction; one whose id is there already changes nothing.

        Answers to people who have been erased since are not stored, nor those to sessions that were theirs.

        Args:
            shown: The answers.
            erasures: Mark of `users_deleted_after` up to which all erasures were known when the answers were begun.
                With an empty one nobody who was ever erased has answers stored.
        """
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
            self._database.share(connection, people.ERASURE_LOCK)
            gone = people.erased_after(connection, erasures, {(each.user_id, each.session_id) for each in shown})
            step("looked")
            ordered = [row for _, row in sorted(rows.items()) if (row["user_id"], row["session_id"]) not in gone]
            if ordered:
                insert_many(connection, schema.recommendations, ordered, keep, _shown.timestamp)

    def recommendation(self, recommendation_id: str) -> ShownRecommendation | None:
        """An answer; None if there is none, or it has moved to a file."""
        limits.check_id("recommendation_id", recommendation_id)
        query = sa.select(_shown.body).where(_shown.recommendation_id == recommendation_id)
        with self._database.reading() as connection:
            body = connection.execute(query).scalar_one_or_none()
        return None if body is None else msgspec.json.decode(body, type=ShownRecommendation)
