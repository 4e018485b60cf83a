"""What the routes work with."""

from dataclasses import dataclass, field

from fastapi import Request

from serving.service.api.access.keys import KeyRing
from serving.service.api.access.rates import RateLimits
from serving.service.api.access.tokens import Tokens
from serving.service.api.collecting.writer import EventWriter
from serving.service.api.metrics import Metrics
from serving.service.options import ServiceOptions
from serving.service.outcomes import Outcomes
from serving.service.recommendation import Recommender
from serving.service.store import Store


@dataclass(slots=True, kw_only=True)
class Context:
    """The parts of a running service.

    Attributes:
        store, recommender, options: As given to `create_app`.
        keys, tokens, rates: Who may do what, and how often.
        writer: Stores events.
        metrics: Counters.
        outcomes: Figures of what people did with answers.
        draining: Whether the service is about to stop.
    """

    store: Store
    recommender: Recommender
    options: ServiceOptions
    keys: KeyRing
    tokens: Tokens
    rates: RateLimits
    writer: EventWriter
    metrics: Metrics
    outcomes: Outcomes
    draining: bool = field(default=False)


def context_of(request: Request) -> Context:
    """The service that a request came to."""
    context: Context = request.app.state.context
    return context
