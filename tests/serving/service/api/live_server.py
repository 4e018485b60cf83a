"""The service in a process of its own, with a recommender that needs no model: `python -m ... OPTIONS`."""

import asyncio
import logging
import sys
from pathlib import Path

from serving.service.main import main
from serving.service.recommendation import RecommendationRequest, RecommendationResponse
from tests.serving.service.api.fakes import FakeRecommender


class _SometimesSlow(FakeRecommender):
    """For the placement `slow` it waits until there is a file, whose path is the query."""

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        if request.placement == "slow":
            logging.getLogger(__name__).info("a slow answer has begun")
            while not Path(request.query).exists():
                await asyncio.sleep(0.01)
        return await super().recommend(request)


if __name__ == "__main__":
    sys.exit(main(make_recommender=lambda store, options: _SometimesSlow()))
