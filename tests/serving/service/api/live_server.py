"""The service in a process of its own, with a recommender that needs no model: `python -m ... OPTIONS`."""

import asyncio
import sys

from serving.service.main import main
from serving.service.recommendation import RecommendationRequest, RecommendationResponse
from tests.serving.service.api.fakes import FakeRecommender


class _SometimesSlow(FakeRecommender):
    """Takes a second for the placement `slow`."""

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        if request.placement == "slow":
            await asyncio.sleep(1)
        return await super().recommend(request)


if __name__ == "__main__":
    sys.exit(main(make_recommender=lambda store, options: _SometimesSlow()))
