"""What is counted, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from serving.service.store import Rollout

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
        rollout_share: Share of the people who get the version that is tried, by the versions.
        rollout_lift: By how much it is better, by measure: the estimate and its always-valid bounds.
        rollout_failures: Share of its answers that the stable version had to give.
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
        self.rollout_share = Gauge(
            "babelrec_service_rollout_share",
            "Share of the people who get the version that is tried",
            ["stable", "canary", "state"],
            registry=self.registry,
        )
        self.rollout_lift = Gauge(
            "babelrec_service_rollout_lift",
            "Relative difference of the version that is tried: 0.03 is 3 % better",
            ["measure", "bound"],
            registry=self.registry,
        )
        self.rollout_failures = Gauge(
            "babelrec_service_rollout_failures",
            "Share of the answers that the stable version gave in the place of the one that is tried",
            ["canary"],
            registry=self.registry,
        )
        for status in ("accepted", "duplicate", "rejected"):
            self.events.labels(status)

    def show_rollout(self, rollout: Rollout | None) -> None:
        """Sets the gauges of the roll-out that runs; without one they are absent."""
        for gauge in (self.rollout_share, self.rollout_lift, self.rollout_failures):
            gauge.clear()
        if rollout is None:
            return
        canary = str(rollout.canary)
        self.rollout_share.labels(str(rollout.stable), canary, rollout.state.value).set(rollout.share)
        figures = rollout.figures
        for measure, lift in figures.get("lift", {}).items():
            for bound in ("value", "low", "high"):
                self.rollout_lift.labels(measure, bound).set(lift[bound])
        if figures.get("canary_answers"):
            self.rollout_failures.labels(canary).set(figures["failures"] / figures["canary_answers"])
