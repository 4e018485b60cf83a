"""Finished measurements of the quality benchmark, one small JSON each, and the table rows built from them."""

import hashlib
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from benchmarks.sources import digest
from benchmarks.suites.suite import Model, Suite
from trainer.errors import BabelrecError
from trainer.files import write_text

Row = dict[str, Any]
"""``data``, ``protocol``, ``model``, ``metric``, ``mean``, ``sd``, ``seeds`` (measured), ``of`` (total)."""


class Store:
    """Measurements, keyed by what they depend on.

    Args:
        directory: One file per measurement, named by model, seed and a digest of settings and data.
        any_source: Also accept measurements of other versions of the source files.
    """

    def __init__(self, directory: Path, *, any_source: bool = False) -> None:
        self._directory = directory
        self._any_source = any_source

    def find(self, model: Model, seed: int) -> dict[str, float] | None:
        """The stored metrics, or None."""
        try:
            record = json.loads(self._file(model, seed).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not self._any_source and record["sources"] != digest(model.sources):
            return None
        return dict(record["metrics"])

    def measure(self, model: Model, seed: int) -> dict[str, float]:
        """Measures and stores the metrics."""
        started = time.monotonic()
        # Before the measurement: an edit while it runs must not be taken for the version that ran.
        sources, facts = digest(model.sources), model.facts()
        metrics = {name: float(value) for name, value in model.measure(seed).items()}
        record = {
            "model": model.name,
            "seed": seed,
            "facts": facts,
            "sources": sources,
            "commit": environment()["commit"],
            "seconds": round(time.monotonic() - started, 1),
            "metrics": metrics,
        }
        write_text(self._file(model, seed), json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
        return metrics

    def rows(self, suite: Suite, models: Iterable[Model]) -> list[Row]:
        """The rows of models with at least one measured seed."""
        found: list[Row] = []
        for model in models:
            try:
                measured = [self.find(model, seed) for seed in model.seeds]
            except BabelrecError:
                # There are no figures for missing data or settings not yet searched.
                continue
            there = [metrics for metrics in measured if metrics is not None]
            if there:
                found += [_row(suite, model, metric, [each[metric] for each in there]) for metric in there[0]]
        return found

    def _file(self, model: Model, seed: int) -> Path:
        facts = json.dumps(model.facts(), sort_keys=True, ensure_ascii=False)
        key = hashlib.sha256(facts.encode()).hexdigest()[:12]
        plain = "".join(character if character.isalnum() else "-" for character in model.name)
        return self._directory / f"{plain}-{seed}-{key}.json"


def _row(suite: Suite, model: Model, metric: str, values: list[float]) -> Row:
    return {
        "data": suite.data,
        "protocol": suite.protocol,
        "model": model.name,
        "metric": metric,
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
        "seeds": len(values),
        "of": len(model.seeds),
    }
