"""What the gate found: each check with its figures, and the verdict."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from trainer.errors import BabelrecError
from trainer.files import write_text

GATE_FILE: Final = "gate.json"
Kind = Literal["quality", "slice", "coverage", "calibration", "data"]


@dataclass(frozen=True, slots=True)
class Check:
    """One condition.

    Attributes:
        kind: What it is about.
        name: Such as ``all people`` or ``items in ko``.
        measure: Such as ``ndcg@10``.
        champion, challenger: Their values; for `data`, of the data before and of the new data.
        limit: What the challenger's value must reach, or stay below.
        holds: Whether it does.
        people: How many it is about; None: it isn't about people.
        difference, low, high: Mean of the paired differences per person and its 95 % bootstrap interval; None: there is
            no such interval.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    kind: Kind
    name: str
    measure: str
    champion: float
    challenger: float
    limit: float
    holds: bool
    people: int | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def sentence(self) -> str:
        """In one line."""
        interval = ""
        if self.low is not None:
            interval = f" (difference {self.difference:+.4f}, {self.low:+.4f} to {self.high:+.4f})"
        return f"{self.measure} of {self.name}: {self.champion:.4f} -> {self.challenger:.4f}{interval}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a gate.

    Attributes:
        promoted: Whether the challenger may replace the champion.
        champion, challenger: Their run directories.
        since: Unix seconds; the compared events are from then on.
        people, positives: How many were compared.
        checks: All conditions.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    promoted: bool
    champion: str
    challenger: str
    since: int
    people: int
    positives: int
    checks: Sequence[Check]

    @property
    def failed(self) -> list[Check]:
        """The conditions that do not hold."""
        return [check for check in self.checks if not check.holds]

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        compared = f"{self.positives:,} newest positives of {self.people:,} people"
        if self.promoted:
            return f"Promoted on {compared}: {self.checks[0].sentence}."
        reasons = "; ".join(check.sentence for check in self.failed[:3])
        more = f"; and {len(self.failed) - 3} more" if len(self.failed) > 3 else ""
        return f"Refused on {compared}: {reasons}{more}."


_ADAPTER: TypeAdapter[Verdict] = TypeAdapter(Verdict)


def save_verdict(verdict: Verdict, folder: Path) -> None:
    """Writes ``gate.json``, atomically."""
    write_text(folder / GATE_FILE, json.dumps(asdict(verdict), ensure_ascii=False, indent=2) + "\n")


def load_verdict(folder: Path) -> Verdict:
    """Reads what `save_verdict` wrote.

    Raises:
        BabelrecError: the file is missing or broken.
    """
    try:
        return _ADAPTER.validate_json((folder / GATE_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise BabelrecError(f"{folder / GATE_FILE} can't be read: {error}. Remove it to judge again.") from None
