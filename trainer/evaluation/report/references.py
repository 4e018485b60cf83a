"""Reference figures of other programs by the same protocols.

P1: implicit 0.7.3 (popularity, BPR, ALS, EASE), one run each. P2: cosine between the mean mUSE vector of
the history and each title, without training. Source: the reference table of docs/evaluation.md. The popularity
row also tests the harness: a run whose own popularity differs by more than `TOLERANCE` has a bug.
"""

from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.report.contents import ReferenceResult

TOLERANCE = 0.003

_IMPLICIT = "implicit 0.7.3"
_MUSE = "mUSE v3"


def _of(model: str, source: str, *values: float) -> ReferenceResult:
    names = ("recall@10", "recall@20", "ndcg@10")
    return ReferenceResult(model, source, {name: Metric(value) for name, value in zip(names, values, strict=False)})


_REFERENCES: dict[tuple[str, str], tuple[ReferenceResult, ...]] = {
    ("movielens-100k", "P1"): (
        _of("popularity", _IMPLICIT, 0.0820, 0.1153, 0.0801),
        _of("BPR 64", _IMPLICIT, 0.0927, 0.1297, 0.0858),
        _of("ALS 64", _IMPLICIT, 0.1595, 0.2164, 0.1448),
        _of("EASE", _IMPLICIT, 0.1656, 0.2197, 0.1510),
    ),
    ("kmrd-small", "P1"): (
        _of("popularity", _IMPLICIT, 0.2416, 0.3478, 0.1670),
        _of("ALS 32", _IMPLICIT, 0.1797, 0.2777, 0.1265),
        _of("EASE", _IMPLICIT, 0.2877, 0.4023, 0.2054),
    ),
    ("kmrd-small", "P2"): (
        _of("random", "uniform scores", 0.0189),
        _of("mean-history, Korean titles", _MUSE, 0.0509),
        _of("mean-history, Korean titles + genres", _MUSE, 0.0669),
        _of("mean-history, English titles", _MUSE, 0.1086),
    ),
}


def references(dataset: str, protocol: str) -> tuple[ReferenceResult, ...]:
    """The reference figures for a dataset and protocol; empty for others, such as the user's own data."""
    return _REFERENCES.get((dataset, protocol), ())
