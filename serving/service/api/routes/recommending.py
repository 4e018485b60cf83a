"""Recommendations."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.bodies.answers import form_of
from serving.service.api.bodies.recommending import (
    FilterForm,
    RankForm,
    RecommendationForm,
    SearchForm,
    SimilarForm,
    request_of,
)
from serving.service.api.context import Context, context_of
from serving.service.api.routes.common import Requires, answer
from serving.service.recommendation import RecommendationRequest, RecommendationResponse, ScoredItem

router = APIRouter(prefix="/v1", tags=["Recommendations"])
_Asker = Annotated[Principal, Depends(Requires(Permission.RECOMMEND))]
_RESPONSE = form_of(RecommendationResponse)


@router.post("/recommendations", response_model=_RESPONSE)
async def recommendations(form: RecommendationForm, asker: _Asker, request: Request) -> Response:
    """The best items for a user, a session, both or neither, with text or without."""
    return await _recommended(form, asker, request)


@router.post("/search", response_model=_RESPONSE)
async def search(form: SearchForm, asker: _Asker, request: Request) -> Response:
    """The best items for a text in any language."""
    return await _recommended(form, asker, request)


@router.post("/similar", response_model=_RESPONSE)
async def similar(form: SimilarForm, asker: _Asker, request: Request) -> Response:
    """Items that go with an item, whoever asks."""
    context = context_of(request)
    response = await context.recommender.similar(form.item_id, _asked(form, asker))
    return _answered(context, response)


@router.post("/rank", response_model=list[form_of(ScoredItem)])  # type: ignore[misc]
async def rank(form: RankForm, asker: _Asker, request: Request) -> Response:
    """Scores of given items, in their order; null for items that nobody knows."""
    context = context_of(request)
    return answer(await context.recommender.rank(_asked(form, asker), form.item_ids))


async def _recommended(form: FilterForm, asker: Principal, request: Request) -> Response:
    context = context_of(request)
    return _answered(context, await context.recommender.recommend(_asked(form, asker)))


def _asked(form: FilterForm, asker: Principal) -> RecommendationRequest:
    return request_of(form, *asker.acting_for(form.user_id, form.session_id))


def _answered(context: Context, response: RecommendationResponse) -> Response:
    if response.degraded:
        context.metrics.degraded.inc()
    return answer(response)
