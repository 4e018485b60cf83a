"""The contents of evaluation.json, with its reader and its JSON form."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from trainer.errors import BabelrecError
from trainer.evaluation.heads.result import HeadResult
from trainer.evaluation.metrics.per_user import Metric
from trainer.evaluation.metrics.slices import SliceSize
from trainer.evaluation.prequential.result import PrequentialResult
from trainer.evaluation.sampling import SamplingError

SCHEMA: Literal[1] = 1
DEFAULT_STEM = "evaluation"

Metrics = dict[str, Metric]
Slices = dict[str, dict[str, Metrics]]
"""Dimension (`item_language`) -> group (`ko`) -> metrics."""

Curves = dict[str, dict[int, float]]
"""Metric (`recall`) -> cut-off k -> value."""

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was evaluated: users with test items, candidate items, training and test pairs.

    If averages are over impressions: their number, with `training` impressions before and `test` clicks in them.
    """

    __pydantic_config__ = _STRICT

    users: int
    items: int
    training: int
    test: int
    impressions: int | None = None


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """A baseline in the same run: same users, same candidates, same code.

    Attributes:
        model: its name.
        metrics: its figures.
        slices: as in `EvaluationReport`.
        curves: as in `EvaluationReport`.
        advantage: the evaluated model's metric minus this baseline's, paired user by user.
    """

    __pydantic_config__ = _STRICT

    model: str
    metrics: Metrics
    slices: Slices = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    advantage: Metrics = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """A published figure measured by the same protocol, not computed in this run."""

    __pydantic_config__ = _STRICT

    model: str
    source: str
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """One model on one split by one protocol, with baselines and references.

    Attributes:
        dataset: name of the dataset, for instance `movielens-100k`.
        protocol: `P1` to `P5` (docs/evaluation.md).
        split: the part that was evaluated: `test` or `validation`.
        model: name of the evaluated model.
        metrics: name (`recall@10`) -> figure with interval.
        slices: dimension -> group -> metrics.
        seconds: wall-clock time of the evaluation.
        sizes: number of users, items and interactions.
        slice_sizes: dimension -> group -> the amount of data behind the slice.
        curves: metric -> cut-off -> value.
        baselines: the same figures for the baselines.
        left_out: baseline -> why it was not computed.
        sample: if only some of the users were evaluated: how many, and the standard error that this causes; also for
            the heads, whose pairs are those of as many users.
        reference: figures from other sources.
        heads: ranking head -> its quality on held-out events, positive or not; only for protocols that have them.
        prequential: costs and gains of learning on; only under P5.
        users: ``user_id`` and each metric of each evaluated user, or None. In memory only: `write` stores it next to
            the JSON, as Parquet.
        schema: version of this format.
    """

    __pydantic_config__ = _STRICT | ConfigDict(arbitrary_types_allowed=True)

    dataset: str
    protocol: str
    split: str
    model: str
    metrics: Metrics
    seconds: float
    slices: Slices = field(default_factory=dict)
    sizes: Sizes | None = None
    slice_sizes: dict[str, dict[str, SliceSize]] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    baselines: tuple[BaselineResult, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    sample: SamplingError | None = None
    reference: tuple[ReferenceResult, ...] = ()
    heads: dict[str, HeadResult] = field(default_factory=dict)
    prequential: PrequentialResult | None = None
    users: Annotated[pl.DataFrame | None, Field(exclude=True)] = field(default=None, compare=False, repr=False)
    schema: Literal[1] = SCHEMA

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"seconds must be finite and not negative, received {self.seconds}")

    def to_json(self) -> str:
        """The report as indented JSON, the contract's keys first."""
        fields = _ADAPTER.dump_python(self, mode="json")
        ordered = {name: fields.pop(name) for name in _LEADING_KEYS} | fields
        return json.dumps(ordered, ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str, *, origin: str = "evaluation.json") -> "EvaluationReport":
        """Reads what `to_json` wrote.

        Args:
            text: the JSON document.
            origin: its name in error messages, usually its path.

        Raises:
            BabelrecError: it is not JSON, has another schema, or a key is missing, unknown or of the wrong
                type.
        """
        try:
            return _ADAPTER.validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the document"
            more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
            raise BabelrecError(
                f"{origin}: {place}: {first['msg']}, received {first['input']!r:.80}{more}. Remedy: write it "
                f"again with `python -m trainer.task evaluate`; this version reads schema {SCHEMA}."
            ) from error


_LEADING_KEYS = ("schema", "dataset", "protocol", "split", "model", "metrics", "slices", "seconds")
_ADAPTER = TypeAdapter(EvaluationReport)


def load(path: Path) -> EvaluationReport:
    """Reads an evaluation.json, or the one in a directory.

    Raises:
        BabelrecError: it is missing, unreadable or not of this schema.
    """
    file = path / f"{DEFAULT_STEM}.json" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BabelrecError(
            f"{file} does not exist. Remedy: `python -m trainer.task evaluate --run-dir {file.parent}`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BabelrecError(f"{file} can't be read: {error}. Remedy: evaluate the run again.") from error
    return EvaluationReport.from_json(text, origin=str(file))
