"""A recommender without a model."""

import asyncio
from collections.abc import Sequence

from serving.service.errors import UnavailableError
from serving.service.recommendation import (
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    ScoredItem,
)
from serving.service.types import Event, ItemChange, User


class FakeRecommender:
    """Answers with the items 0, 1, 2, ..., and records its calls."""

    def __init__(self) -> None:
        self.asked: list[RecommendationRequest] = []
        self.similar_to: list[str] = []
        self.events: list[Event] = []
        self.changes: list[ItemChange] = []
        self.users: dict[str, User | None] = {}
        self.rules_changes = 0
        self.previews: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        self.degraded = False
        self.ready = True
        self.model_version = 7
        self.waiting_items = 0

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        if self.seconds:
            await asyncio.sleep(self.seconds)
        items = [
            RecommendedItem(item_id=str(place), position=place, title="急須", language="ja", score=1.0 - place / 1000)
            for place in range(request.k)
        ]
        return RecommendationResponse(
            recommendation_id="r-1", model_version=7, variant="", degraded=self.degraded, items=items
        )

    async def similar(self, item_id: str, request: RecommendationRequest) -> RecommendationResponse:
        self.similar_to.append(item_id)
        return await self.recommend(request)

    async def preview(self, request: RecommendationRequest, rules: str) -> RecommendationResponse:
        self.previews.append((request.user_id, rules))
        return await self.recommend(request)

    async def rank(self, request: RecommendationRequest, item_ids: Sequence[str]) -> Sequence[ScoredItem]:
        self.asked.append(request)
        if self.error is not None:
            raise UnavailableError("no")
        return [ScoredItem(item_id=each, score=None if each == "unknown" else 0.5) for each in item_ids]

    def heard(self, events: Sequence[Event]) -> None:
        self.events += events

    def items_changed(self, changes: Sequence[ItemChange]) -> None:
        self.changes += changes

    def user_changed(self, user: User) -> None:
        self.users[user.user_id] = user

    def user_deleted(self, user_id: str) -> None:
        self.users[user_id] = None

    async def rules_changed(self) -> None:
        self.rules_changes += 1
