"""The service on a recommender without a model, which reads the store: `python -m ... OPTIONS`."""

import asyncio
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace

from serving.service.main import main
from serving.service.recommendation import (
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    RuleEffect,
    ScoredItem,
)
from serving.service.rules import Candidate, Context, apply, parse_rules
from serving.service.store import Store
from serving.service.types import Event, Item, ItemChange, User


class StoreRecommender:
    """Items that share a category with what a person did last come first, then those in the language that is asked for.

    A text finds its own words. Rules count in previews only.
    """

    ready = True
    model_version = 7
    waiting_items = 0

    def __init__(self, store: Store) -> None:
        self._store = store

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        return await asyncio.to_thread(self._recommend, request)

    def _recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        history = (
            [each.item_id for each in self._store.history(request.user_id, request.session_id)]
            if request.user_id or request.session_id
            else []
        )
        known = self._store.items(history)
        last = set(known[history[-1]].categories) if history and history[-1] in known else set()

        def score(item: Item) -> float:
            found = bool(request.query) and request.query.casefold() in item.title.casefold()
            same_language = bool(request.language) and item.language == request.language
            return 2.0 * found + bool(last & set(item.categories)) + 0.5 * same_language

        items = [
            item
            for item in self._store.find_items("", 1_000)
            if item.available
            and (request.include_seen or item.item_id not in history)
            and item.item_id not in request.exclude
            and (not request.languages or item.language in request.languages)
        ]
        items.sort(key=lambda item: (-score(item), item.item_id))
        return RecommendationResponse(
            recommendation_id=uuid.uuid4().hex,
            model_version=self.model_version,
            variant="",
            degraded=False,
            items=[
                RecommendedItem(
                    item_id=item.item_id,
                    position=place,
                    title=item.title,
                    language=item.language,
                    score=score(item) + 1.0 - place / 100,
                    heads={"probability_like": 0.7, "watched_to_the_end": 0.25},
                    source="fresh" if item.item_id.startswith("p-") else "model",
                    rules=[RuleEffect(rule="own first", kind="boost", before=1.0, after=1.2)] if place == 1 else [],
                )
                for place, item in enumerate(items[: request.k])
            ],
            removed={"no horror": 2},
        )

    async def similar(self, item_id: str, request: RecommendationRequest) -> RecommendationResponse:
        return await self.recommend(replace(request, exclude=[*request.exclude, item_id]))

    async def preview(self, request: RecommendationRequest, rules: str) -> RecommendationResponse:
        found = await self.recommend(replace(request, k=1_000))
        known = self._store.items([each.item_id for each in found.items])
        candidates = [Candidate(known[each.item_id], each.score, each.source) for each in found.items]
        outcome = apply(parse_rules(rules or "rules: []"), candidates, Context(now=0.0), request.k)
        of = {each.item_id: each for each in found.items}
        items = [replace(of[each.item.item_id], position=place, rules=[]) for place, each in enumerate(outcome.items)]
        return replace(found, items=items)

    async def rank(self, request: RecommendationRequest, item_ids: Sequence[str]) -> Sequence[ScoredItem]:
        known = self._store.items(item_ids)
        return [ScoredItem(item_id=each, score=0.5 if each in known else None) for each in item_ids]

    def heard(self, events: Sequence[Event]) -> None:
        pass

    def items_changed(self, changes: Sequence[ItemChange]) -> None:
        """It reads the store."""

    def user_changed(self, user: User) -> None:
        """It reads the store."""

    def user_deleted(self, user_id: str) -> None:
        """It reads the store."""

    async def rules_changed(self) -> None:
        """It has no rules."""


if __name__ == "__main__":
    sys.exit(main(make_recommender=lambda store, options: StoreRecommender(store)))
