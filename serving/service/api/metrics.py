"""What is counted, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """The counters of one application.

    Attributes:
        registry: All of them.
        requests: By route, method and status.
        seconds: Time until an answer was sent, by route.
        events: By what became of them.
        queued: Events that wait to be written.
        commits: Transactions with events.
        degraded: Answers of the store in the model's place.
        limited: Requests beyond a rate.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "babelrec_service_requests", "Requests", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "babelrec_service_request_seconds", "Time of a request", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.events = Counter("babelrec_service_events", "Events", ["status"], registry=self.registry)
        self.queued = Gauge("babelrec_service_queued_events", "Events that wait to be written", registry=self.registry)
        self.commits = Counter("babelrec_service_event_commits", "Transactions with events", registry=self.registry)
        self.degraded = Counter(
            "babelrec_service_degraded_answers",
            "Answers with popular items in the model's place",
            registry=self.registry,
        )
        self.limited = Counter("babelrec_service_rate_limited", "Requests beyond a rate", registry=self.registry)
        for status in ("accepted", "duplicate", "rejected"):
            self.events.labels(status)
