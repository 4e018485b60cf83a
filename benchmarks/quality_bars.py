"""The benchmark's bars for Babelrec, and whether the table meets them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.quality_store import Row
from benchmarks.suites import cold_start, news, text_queries
from benchmarks.suites.suite import OURS
from benchmarks.suites.zero_shot import RATIO


@dataclass(frozen=True)
class Verdict:
    """One bar.

    Attributes:
        data: Name of the data.
        figure: The metric.
        value: Babelrec's figure; None if not measured.
        bar: The value it must reach; None if that was not measured.
        because: How the bar is defined.
        met: None: not measured.
    """

    data: str
    figure: str
    value: float | None
    bar: float | None
    because: str
    met: bool | None

    def as_json(self) -> dict[str, Any]:
        """For the benchmark's JSON."""
        return asdict(self)


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Checks every bar against the table."""
    return [bar(rows) for bar in _BARS]


def _mean(rows: Sequence[Row], data: str, protocol: str, metric: str) -> float | None:
    wanted = (data, protocol, OURS, metric)
    return next((r["mean"] for r in rows if (r["data"], r["protocol"], r["model"], r["metric"]) == wanted), None)


def _verdict(data: str, figure: str, value: float | None, bar: float | None, because: str, strict: bool) -> Verdict:
    met = None
    if value is not None and bar is not None:
        met = value > bar if strict else value >= bar
    return Verdict(data, figure, value, bar, because, met)


def _above_baselines(data: str, protocol: str, metric: str, gain: float) -> Callable[[Sequence[Row]], Verdict]:
    def check(rows: Sequence[Row]) -> Verdict:
        baselines = [
            row
            for row in rows
            if (row["data"], row["protocol"], row["metric"]) == (data, protocol, metric) and row["model"] != OURS
        ]
        best = max(baselines, key=lambda row: row["mean"], default=None)
        bar = None if best is None else best["mean"] * (1 + gain)
        because = "best baseline" if best is None else f"{best['model']} {best['mean']:.4f}"
        because += f" + {gain:.0%}" if gain else ""
        return _verdict(data, f"{protocol} {metric}", _mean(rows, data, protocol, metric), bar, because, gain == 0)

    return check


def _at_least(data: str, protocol: str, metric: str, least: float) -> Callable[[Sequence[Row]], Verdict]:
    def check(rows: Sequence[Row]) -> Verdict:
        value = _mean(rows, data, protocol, metric)
        return _verdict(data, f"{protocol} {metric}", value, least, "fixed", False)

    return check


def _within(data: str, protocol: str, metric: str, other: str, margin: float) -> Callable[[Sequence[Row]], Verdict]:
    """At most a margin below another of Babelrec's figures."""

    def check(rows: Sequence[Row]) -> Verdict:
        value, against = _mean(rows, data, protocol, metric), _mean(rows, data, protocol, other)
        bar = None if against is None else against - margin
        because = other if against is None else f"{other} {against:.4f} - {margin}"
        return _verdict(data, f"{protocol} {metric}", value, bar, because, False)

    return check


_BARS = (
    _above_baselines("movielens-100k", "P1", "ndcg@10", 0.10),
    _above_baselines("movielens-100k", "P1", "recall@10", 0.10),
    _above_baselines("kmrd", "P1", "ndcg@10", 0.05),
    _above_baselines("kmrd", "P1", "recall@10", 0.05),
    _at_least("kmrd", "P2 zero-shot", "recall@10", 0.14),
    _at_least("kmrd", "P2 zero-shot", RATIO, 0.85),
    _above_baselines("kmrd", "P2 few-shot 1%", "recall@10", 0.0),
    _above_baselines("kmrd", "P2 few-shot 10%", "recall@10", 0.0),
    _at_least("movielens-100k", "item cold start", cold_start.RATIO, 0.60),
    _at_least("mind-sample", "P3", "auc zh → zh", 0.60),
    _within("mind-sample", "P3", news.SAME.format("en"), news.SAME.format("zh"), 0.02),
    _at_least("movielens-100k", text_queries.PROTOCOL, text_queries.OVERLAP, 0.60),
    _at_least("movielens-100k", text_queries.PROTOCOL, text_queries.WORST, 0.45),
)
