"""Finished measurements of the quality benchmark, one small JSON each, and the table's rows made of them."""

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
"""``data``, ``protocol``, ``model``, ``metric``, ``mean``, ``sd``, ``seeds`` (measured), ``of`` (that there are)."""


class Store:
    """Measurements by what they rest on.

    Args:
        directory: One file a measurement, named by model, seed and a digest of settings and data.
        any_source: Also take what other versions of the source files measured.
    """

    def __init__(self, directory: Path, *, any_source: bool = False) -> None:
        self._directory = directory
        self._any_source = any_source

    def find(self, model: Model, seed: int) -> dict[str, float] | None:
        """The metrics measured before, or None."""
        try:
            record = json.loads(self._file(model, seed).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not self._any_source and record["sources"] != digest(model.sources):
            return None
        return dict(record["metrics"])

    def measure(self, model: Model, seed: int) -> dict[str, float]:
        """Measures and keeps."""
        started = time.monotonic()
        # Before the measurement: an edit while it runs must not be taken for what was run.
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
        """The rows of the models of which at least one seed is measured."""
        found: list[Row] = []
        for model in models:
            try:
                measured = [self.find(model, seed) for seed in model.seeds]
            except BabelrecError:
                # Of data that are not here, or settings that are not searched, there are no figures.
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
