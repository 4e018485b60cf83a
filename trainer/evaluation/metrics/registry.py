"""All ranking metrics: built-in ones, and those whose import paths a config lists."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from trainer.errors import BabelrecError
from trainer.evaluation.metrics import ranked
from trainer.evaluation.metrics.definition import RankingMetric
from trainer.imports import imported


def _found() -> Mapping[str, RankingMetric]:
    modules = [
        importlib.import_module(f"{ranked.__name__}.{each.name}") for each in pkgutil.iter_modules(ranked.__path__)
    ]
    metrics = sorted((module.METRIC for module in modules), key=lambda metric: (metric.order, metric.name))
    return MappingProxyType({metric.name: metric for metric in metrics})


METRICS: Mapping[str, RankingMetric] = _found()
"""Name -> metric, in the order of columns."""


def with_own(paths: Sequence[str]) -> tuple[RankingMetric, ...]:
    """The built-in metrics, followed by the config's own.

    Args:
        paths: such as ``my_package.metrics:SERENDIPITY``.

    Raises:
        BabelrecError: a path is not that of a ``RankingMetric``, or its name is taken.
    """
    metrics = dict(METRICS)
    for path in paths:
        metric = imported(path, RankingMetric, setting="evaluation.metrics")
        if metric.name in metrics:
            raise BabelrecError(
                f"evaluation.metrics: {path} has the same name as another metric, {metric.name!r}. Remedy: rename it."
            )
        metrics[metric.name] = metric
    return tuple(metrics.values())
