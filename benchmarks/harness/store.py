"""Storage of results: ``runs/bench/NAME.json``, and below ``runs/bench/NAME/`` what a resumed benchmark reuses.

Every file is written under a temporary name and renamed.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import commit
from benchmarks.harness.sources import any_source_accepted, digest
from trainer.files import write_text

RESULTS = Path("runs/bench")
SEEDS = (42, 43, 44)


def write_json(path: Path, content: object) -> None:
    """Writes JSON, indented, in UTF-8.

    Raises:
        ValueError: a number is not finite.
    """
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def key_of(content: str, length: int = 12) -> str:
    """Hex digits that identify a text, for file names."""
    return hashlib.sha256(content.encode()).hexdigest()[:length]


@dataclass(frozen=True)
class Model:
    """A model that is measured once per seed.

    Attributes:
        name: `babelrec`, or a baseline's name.
        measure: Seed -> metric -> value.
        facts: What the metrics depend on besides seed and sources: settings, data. JSON-serialisable; called only when
            the model is selected, and may raise.
        sources: Globs of the source files that the metrics depend on.
        seeds: The seeds to run; one for a deterministic model.
    """

    name: str
    measure: Callable[[int], Mapping[str, float]]
    facts: Callable[[], Mapping[str, Any]]
    sources: tuple[str, ...]
    seeds: tuple[int, ...] = SEEDS


class Store:
    """Measurements, keyed by what they depend on.

    Args:
        directory: One file per measurement, named by model, seed and a digest of settings and data.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, model: Model, seed: int) -> dict[str, float] | None:
        """The stored metrics, or None."""
        try:
            record = json.loads(self._file(model, seed).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not any_source_accepted() and record["sources"] != digest(model.sources):
            return None
        return dict(record["metrics"])

    def measure(self, model: Model, seed: int) -> dict[str, float]:
        """Measures and stores the metrics."""
        started = time.monotonic()
        # Recorded before the measurement: the code may be edited while it runs.
        sources, facts = digest(model.sources), model.facts()
        metrics = {name: float(value) for name, value in model.measure(seed).items()}
        record = {
            "model": model.name,
            "seed": seed,
            "facts": facts,
            "sources": sources,
            "commit": commit(),
            "seconds": round(time.monotonic() - started, 1),
            "metrics": metrics,
        }
        write_json(self._file(model, seed), record)
        return metrics

    def _file(self, model: Model, seed: int) -> Path:
        key = key_of(json.dumps(model.facts(), sort_keys=True, ensure_ascii=False))
        plain = "".join(character if character.isalnum() else "-" for character in model.name)
        return self._directory / f"{plain}-{seed}-{key}.json"
