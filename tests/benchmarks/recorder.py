"""Models that are not trained."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.store import SEEDS, Model
from trainer.errors import BabelrecError

# An unpacked source distribution has no commit to report.
IN_CHECKOUT = (Path(__file__).resolve().parents[2] / ".git").exists()


@dataclass
class Recorder:
    """A model that counts how often it was measured, and fails where requested."""

    settings: dict[str, Any] = field(default_factory=dict)
    fails_at: int | None = None
    requested: list[int] = field(default_factory=list)

    def measure(self, seed: int) -> dict[str, float]:
        if seed == self.fails_at:
            raise BabelrecError("ended in the midst")
        self.requested.append(seed)
        return {"recall@10": seed / 100, "ndcg@10": seed / 200}

    def model(self, name: str, seeds: tuple[int, ...] = SEEDS) -> Model:
        return Model(name, self.measure, lambda: self.settings, ("benchmarks/harness/sources.py",), seeds)
