"""The scenes' bars, and the table that compares Babelrec with the best baseline of each scene."""

import math
from collections.abc import Sequence

from benchmarks.harness.table import Bar, Table, at_least
from benchmarks.quality.report import Row
from benchmarks.quality.suites.suite import OURS
from benchmarks.scenes.suites import ALONE, P1_SCENES, SMALL_MARKETS

RANKED = (*P1_SCENES, "movielens-100k", "kmrd")
"""The six scenes with a full ranking (P1)."""
_METRIC = "ndcg@10"
_GAIN = 1.05
_WANTED = 4
_TRANSFER = 1.10
_AUC, _AUC_GAIN = "auc zh → zh", 0.02
_MEAN_HISTORY = "mean-history mUSE"


def check(rows: Sequence[Row]) -> list[Bar]:
    """Every bar: never below the best baseline, 5 % above it in four scenes, transfer, news."""
    ratios = {data: _ratio(rows, data) for data in RANKED}
    bars = [at_least(f"{data}: {_METRIC} / the best baseline's", ratios[data], 1.0) for data in RANKED]
    known = [ratio for ratio in ratios.values() if ratio is not None]
    # Three decimals: a ratio is known no better from three seeds.
    ahead = sum(round(ratio, 3) >= _GAIN for ratio in known)
    bars.append(at_least("scenes that are 5 % above the best baseline", ahead if known else None, _WANTED))
    for market in SMALL_MARKETS:
        data = f"xmarket {market}"
        together, alone = (_mean(rows, data, model, _METRIC) for model in (OURS, ALONE))
        ratio = None if together is None or not alone else together / alone
        bars.append(at_least(f"{data}: {_METRIC} with the other markets / alone", ratio, _TRANSFER))
    history = _mean(rows, "mind-sample", _MEAN_HISTORY, _AUC)
    bars.append(
        at_least(
            f"mind-sample: {_AUC}, {_AUC_GAIN} above the mean history",
            _mean(rows, "mind-sample", OURS, _AUC),
            None if history is None else history + _AUC_GAIN,
        )
    )
    return bars


def summary(rows: Sequence[Row]) -> Table:
    """NDCG@10 of Babelrec and of the best baseline, by scene."""
    lines = []
    for data in RANKED:
        own, best, ratio = _mean(rows, data, OURS, _METRIC), _best(rows, data), _ratio(rows, data)
        if own is not None and best is not None and ratio is not None:
            lines.append([data, best["model"], f"{best['mean']:.4f}", f"{own:.4f}", f"{100 * (ratio - 1):+.1f} %"])
    return Table("NDCG@10 on the test part", ("scene", "best baseline", "its", "babelrec", "gain"), lines)


def _best(rows: Sequence[Row], data: str) -> Row | None:
    others = [row for row in rows if row["data"] == data and row["metric"] == _METRIC and row["protocol"] == "P1"]
    return max((row for row in others if row["model"] != OURS), key=lambda row: row["mean"], default=None)


def _ratio(rows: Sequence[Row], data: str) -> float | None:
    own, best = _mean(rows, data, OURS, _METRIC), _best(rows, data)
    if own is None or best is None or not math.isfinite(own):
        return None
    return float(own / best["mean"])


def _mean(rows: Sequence[Row], data: str, model: str, metric: str) -> float | None:
    protocols = ("P1", "P3", "transfer")
    found = (
        row["mean"]
        for row in rows
        if (row["data"], row["model"], row["metric"]) == (data, model, metric) and row["protocol"] in protocols
    )
    return next(found, None)
