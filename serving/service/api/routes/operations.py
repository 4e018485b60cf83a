"""What operators and their tools ask."""

import asyncio
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serving.service.api.access.principals import Permission
from serving.service.api.bodies.answers import form_of
from serving.service.api.bodies.outcomes import Health, Readiness
from serving.service.api.context import context_of
from serving.service.api.routes.common import answer, principal_of
from serving.service.store import StoreError

router = APIRouter(tags=["Operations"])
_STORE_SECONDS: Final = 2.0


@router.get("/healthz", summary="Health", response_model=form_of(Health))
async def healthz(request: Request) -> Response:
    """200 while the process works; otherwise restart it."""
    works = context_of(request).writer.is_alive
    return answer(Health(works), HTTPStatus.OK if works else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/readyz", summary="Readiness", response_model=form_of(Readiness))
async def readyz(request: Request) -> Response:
    """200 while requests should be sent here. Without a model server answers are `degraded`, but there are answers."""
    context = context_of(request)
    try:
        async with asyncio.timeout(_STORE_SECONDS):
            await asyncio.to_thread(context.store.latest_mark)
        store = True
    except (StoreError, TimeoutError):
        store = False
    ready = store and context.writer.is_alive and not context.draining
    found = Readiness(
        ready=ready,
        store=store,
        draining=context.draining,
        degraded=not context.recommender.ready,
        model_version=context.recommender.model_version,
    )
    return answer(found, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    context = context_of(request)
    if context.options.metrics_key:
        principal_of(request).require(Permission.READ)
    if context.options.canary:
        try:
            rollout = await asyncio.to_thread(context.store.current_rollout, context.options.model_name)
        except StoreError:
            rollout = None  # all other figures are there; `/readyz` says that the store is away
        context.metrics.show_rollout(rollout)
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)
