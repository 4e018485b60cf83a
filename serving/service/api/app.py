"""Puts the HTTP interface together."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from serving.service.api.access.keys import KeyRing
from serving.service.api.access.rates import RateLimits
from serving.service.api.access.secret import token_secret
from serving.service.api.access.tokens import Tokens
from serving.service.api.collecting.writer import EventWriter
from serving.service.api.context import Context
from serving.service.api.gauges import OutcomeGauges
from serving.service.api.metrics import Metrics
from serving.service.api.middleware.bounds import Bounds
from serving.service.api.middleware.gate import Gate
from serving.service.api.middleware.headers import SecurityHeaders
from serving.service.api.middleware.observing import Observing
from serving.service.api.openapi import describe
from serving.service.api.problems import add_problem_handlers
from serving.service.api.routes import ROUTERS
from serving.service.api.tracing import Tracer, tracer_of
from serving.service.options import ServiceOptions
from serving.service.outcomes import Apart, Outcomes, Watcher
from serving.service.recommendation import Recommender
from serving.service.store import Store

_LOGGER = logging.getLogger(__name__)


def create_app(store: Store, recommender: Recommender, options: ServiceOptions) -> FastAPI:
    """The application, for an ASGI server.

    Args:
        store: Open; it stays open when the application ends.
        recommender: One that is an asynchronous context manager is entered when the application starts, in its event
            loop, and left when it ends.
        options: Of the command line, or `serving.service.options.default_options`.
    """
    metrics = Metrics()
    keys = KeyRing(store)
    settings = options.outcomes
    computer = Apart(options.store, settings)
    context = Context(
        store=store,
        recommender=recommender,
        options=options,
        keys=keys,
        tokens=Tokens(token_secret(options.store), keys),
        rates=RateLimits(options.key_limit, options.address_limit),
        writer=EventWriter(store, recommender.heard, metrics, options.max_queued_events),
        metrics=metrics,
        outcomes=Outcomes(computer, settings),
    )
    tracer = tracer_of(options.tracing)
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=_lifespan(context, tracer, computer))
    app.state.context = context
    for router in ROUTERS:
        app.include_router(router)
    describe(app)
    add_problem_handlers(app)
    # The last one is the outermost.
    app.add_middleware(Gate, context=context)
    app.add_middleware(Bounds, most_bytes=options.max_body_bytes, seconds=options.request_timeout_seconds)
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(SecurityHeaders, is_tls=options.tls_certificate is not None)
    app.add_middleware(Observing, context=context, tracer=tracer)
    return app


def _lifespan(
    context: Context, tracer: Tracer, computer: Apart
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(tracer.close)
            stack.callback(computer.close)
            if isinstance(context.recommender, AbstractAsyncContextManager):
                await stack.enter_async_context(context.recommender)
            # Requests have ended by then: what is left is written at once, and the recommender hears of it.
            stack.push_async_callback(asyncio.to_thread, context.writer.close)
            context.writer.start()
            if context.options.outcome_seconds:
                await stack.enter_async_context(_watching(context))
            yield

    return lifespan


@contextlib.asynccontextmanager
async def _watching(context: Context) -> AsyncIterator[None]:
    """Shows figures of outcomes at ``/metrics``."""
    watcher = Watcher(context.outcomes, context.options.outcome_hours, context.options.outcome_seconds)
    context.metrics.registry.register(OutcomeGauges(watcher))
    task = asyncio.create_task(watcher.run_forever())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
