"""The quality benchmark's bars for Babelrec."""

import math
from collections.abc import Callable, Sequence

from benchmarks.harness.table import Bar, at_least
from benchmarks.quality.report import Row
from benchmarks.quality.suites import cold_start, news, text_queries
from benchmarks.quality.suites.suite import OURS
from benchmarks.quality.suites.zero_shot import RATIO


def check(rows: Sequence[Row]) -> list[Bar]:
    """Compares every bar with the table."""
    return [bar(rows) for bar in _BARS]


def _mean(rows: Sequence[Row], data: str, protocol: str, metric: str) -> float | None:
    wanted = (data, protocol, OURS, metric)
    return next((r["mean"] for r in rows if (r["data"], r["protocol"], r["model"], r["metric"]) == wanted), None)


def _above_baselines(data: str, protocol: str, metric: str, gain: float) -> Callable[[Sequence[Row]], Bar]:
    def bar(rows: Sequence[Row]) -> Bar:
        baselines = [
            row
            for row in rows
            if (row["data"], row["protocol"], row["metric"]) == (data, protocol, metric) and row["model"] != OURS
        ]
        best = max(baselines, key=lambda row: row["mean"], default=None)
        name = f"{data}: {protocol} {metric}, above {'the best baseline' if best is None else best['model']}"
        name += f" by {gain:.0%}" if gain else ""
        least = None if best is None else best["mean"] * (1 + gain)
        if least is not None and not gain:
            # As good as the baseline is not enough.
            least = math.nextafter(least, math.inf)
        return at_least(name, _mean(rows, data, protocol, metric), least)

    return bar


def _at_least(data: str, protocol: str, metric: str, least: float) -> Callable[[Sequence[Row]], Bar]:
    return lambda rows: at_least(f"{data}: {protocol} {metric}", _mean(rows, data, protocol, metric), least)


def _within(data: str, protocol: str, metric: str, other: str, margin: float) -> Callable[[Sequence[Row]], Bar]:
    """At most a margin below another of Babelrec's figures."""

    def bar(rows: Sequence[Row]) -> Bar:
        against = _mean(rows, data, protocol, other)
        name = f"{data}: {protocol} {metric}, at most {margin} below {other}"
        return at_least(name, _mean(rows, data, protocol, metric), None if against is None else against - margin)

    return bar


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
