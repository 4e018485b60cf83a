"""Options of the recommendation service."""

import argparse
import dataclasses
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.arguments import add_arguments, argument, options_of
from serving.service.outcomes.settings import OutcomeSettings
from serving.service.rollout.settings import RolloutSettings

_ROLLOUT: Final = RolloutSettings()
STORE_VARIABLE: Final = "BABELREC_STORE"
SECRET_VARIABLE: Final = "BABELREC_TOKEN_SECRET"
# As a browser sends it: without a path, and never all origins.
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:\d+)?")
# Days or hours.
_LONGEST: Final = 92.0
_SHORTEST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 86_400.0


def store_of_environment() -> str:
    """The store's address, if no argument has it."""
    return os.environ.get(STORE_VARIABLE, "")


@dataclass(frozen=True)
class StoreOptions:
    """Options of a command that works on a store."""

    store: str = argument(
        "--store",
        metavar="URL",
        default="",
        help=f"sqlite:////path/file.db or postgresql://... (default: ${STORE_VARIABLE})",
    )


def store_url(parser: argparse.ArgumentParser, store: str) -> str:
    """The store's address, from the command line or the environment; without one the program ends."""
    # A process list shows arguments, and a URL may have a password: the environment is the better place for it.
    url = store or store_of_environment()
    if not url:
        parser.error(f"no store: give --store URL or set ${STORE_VARIABLE}")
    return url


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in value.split(",") if part.strip())
    for each in origins:
        if not _ORIGIN.fullmatch(each):
            raise argparse.ArgumentTypeError(f"{each!r} is no origin such as https://shop.example")
    return origins


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return number


def _share(value: str) -> float:
    number = float(value)
    if not 0.0 <= number <= 1.0:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 1")
    return number


def _duration(value: str) -> float:
    number = float(value)
    if not 0.0 < number <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{value} is not above 0 and at most {_LONGEST:g}")
    return number


def _pause(value: str) -> float:
    number = float(value)
    if number and not _SHORTEST_PAUSE <= number <= _LONGEST_PAUSE:
        raise argparse.ArgumentTypeError(f"{value} is neither 0 nor from {_SHORTEST_PAUSE:g} to {_LONGEST_PAUSE:g}")
    return number


def _scale(value: str) -> tuple[float, float]:
    low, _, high = value.partition(",")
    try:
        found = float(low), float(high)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no scale such as 1,5") from None
    if not -math.inf < found[0] < found[1] < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is no scale: give the lowest rating, then the highest")
    return found


def _positive_number(value: str) -> float:
    number = float(value)
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return number


def _shares(value: str) -> tuple[float, ...]:
    shares = tuple(_share(part) for part in value.split(","))
    try:
        return RolloutSettings(shares=shares).shares
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# fmt: off
@dataclass(frozen=True)
class ServiceOptions:
    """How the service runs; each field is an argument of ``python -m serving.service``."""

    store: str = argument(
        "--store", metavar="URL", default=store_of_environment(),
        help=f"sqlite:////path/file.db or postgresql://...; better in ${STORE_VARIABLE}, since it may have a password",
    )
    host: str = argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    port: int = argument("--port", type=int, default=8600, help="0: a free one, which is logged (default: %(default)s)")
    model_server: str = argument(
        "--model_server", metavar="HOST:PORT", default="127.0.0.1:8500", help="gRPC address (default: %(default)s)",
    )
    model_name: str = argument("--model_name", default="recommender", help="default: %(default)s")
    rules: Path | None = argument(
        "--rules", type=Path, metavar="FILE", default=None,
        help="business rules in YAML; then they can't be changed by PUT /v1/rules",
    )
    deadline_ms: int = argument(
        "--deadline_ms", type=_positive, default=200, help="for an answer of the model server (default: %(default)s)",
    )
    explore: float = argument(
        "--explore", type=_share, default=0.0,
        help="probability that an answer shows one new item that hardly anybody has seen (default: %(default)s)",
    )
    canary: bool = argument(
        "--canary", action="store_true", default=False,
        help="follow roll-outs: give a share of the people the version with the label canary, and decide about it",
    )
    canary_shares: tuple[float, ...] = argument(
        "--canary_shares", type=_shares, default=_ROLLOUT.shares, metavar="SHARE,...",
        help="shares of the people, stage by stage (default: %(default)s)",
    )
    canary_answers: int = argument(
        "--canary_answers", type=_positive, default=_ROLLOUT.most_answers,
        help="answers after which a trial ends (default: %(default)s)",
    )
    canary_days: float = argument(
        "--canary_days", type=_positive_number, default=_ROLLOUT.most_days,
        help="days after which a trial ends (default: %(default)s)",
    )
    canary_people: int = argument(
        "--canary_people", type=_positive, default=_ROLLOUT.least_people,
        help="people of each version before anything is decided (default: %(default)s)",
    )
    canary_margin: float = argument(
        "--canary_margin", type=_share, default=_ROLLOUT.margin,
        help="accepted loss of CTR of a version that was not proved better (default: %(default)s)",
    )
    request_timeout_seconds: float = argument(
        "--request_timeout_seconds", type=float, default=30.0, help="for a whole request (default: %(default)s)",
    )
    max_body_bytes: int = argument(
        "--max_body_bytes", type=_positive, default=8 * 1024 * 1024, help="default: %(default)s",
    )
    max_queued_events: int = argument(
        "--max_queued_events", type=_positive, default=50_000,
        help="events that wait to be written; more are answered with 503 (default: %(default)s)",
    )
    key_limit: str = argument(
        "--key_limit", metavar="RATE", default="60000/minute", help="requests of a key (default: %(default)s)",
    )
    address_limit: str = argument(
        "--address_limit", metavar="RATE", default="600/minute",
        help="requests with tokens, and refused ones, of a client address; behind a proxy give --trusted_proxies too "
        "(default: %(default)s)",
    )
    cors_origins: tuple[str, ...] = argument(
        "--cors_origins", type=_origins, default=(), metavar="ORIGIN,...",
        help="pages that may call the service from a browser, such as https://shop.example (default: none)",
    )
    trusted_proxies: str = argument(
        "--trusted_proxies", default="", metavar="ADDRESS,...",
        help="addresses or networks whose X-Forwarded-For is believed (default: none)",
    )
    tls_certificate: Path | None = argument("--tls_certificate", type=Path, default=None, help="PEM; turns TLS on")
    tls_key: Path | None = argument("--tls_key", type=Path, default=None, help="PEM")
    metrics_key: bool = argument(
        "--metrics_key", action="store_true", default=False, help="let only keys that may read get /metrics",
    )
    outcome_seconds: float = argument(
        "--outcome_seconds", type=_pause, default=0.0,
        help="compute figures of what people did with answers for /metrics so often; 0: never (default: %(default)s)",
    )
    outcome_hours: float = argument(
        "--outcome_hours", type=_duration, default=24.0, help="of which these figures are (default: %(default)s)",
    )
    click_days: float = argument(
        "--click_days", type=_duration, default=1.0,
        help="in which a click counts for the answer that it names (default: %(default)s)",
    )
    purchase_days: float = argument(
        "--purchase_days", type=_duration, default=7.0, help="the same for a purchase (default: %(default)s)",
    )
    rating_scale: tuple[float, float] = argument(
        "--rating_scale", type=_scale, default=(1.0, 5.0), metavar="LOW,HIGH",
        help="lowest and highest rating, which become satisfaction 0 and 1 (default: 1,5)",
    )
    tracing: bool = argument(
        "--tracing", action="store_true", default=False,
        help="send traces by OpenTelemetry's OTEL_... variables; needs babelrec[tracing]",
    )
    shutdown_delay_seconds: float = argument(
        "--shutdown_delay_seconds", type=float, default=0.0,
        help="after SIGTERM, answer as before but /readyz for so long (default: %(default)s)",
    )
    shutdown_grace_seconds: int = argument(
        "--shutdown_grace_seconds", type=_positive, default=30, help="then finish requests (default: %(default)s)",
    )

    @property
    def outcomes(self) -> OutcomeSettings:
        """How what people do is attributed to answers."""
        return OutcomeSettings(
            click_days=self.click_days,
            purchase_days=self.purchase_days,
            lowest_rating=self.rating_scale[0],
            highest_rating=self.rating_scale[1],
        )
# fmt: on


def parse_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> ServiceOptions:
    """The options of a command line."""
    add_arguments(parser, ServiceOptions)
    return options_of(ServiceOptions, parser.parse_args(arguments))


def default_options(**changes: object) -> ServiceOptions:
    """The options of an empty command line, with some fields changed."""
    options = parse_options(argparse.ArgumentParser(), [])
    return dataclasses.replace(options, **changes)  # type: ignore[arg-type]
