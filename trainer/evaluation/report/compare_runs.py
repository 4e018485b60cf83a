"""Comparison of runs: metrics with intervals, settings that differ, validation by epoch, paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl
from pydantic import TypeAdapter

from trainer.config.settings import flat_settings
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.per_user import Metric, PerUserMetrics
from trainer.evaluation.report.contents import DEFAULT_STEM, EvaluationReport, load
from trainer.evaluation.report.curves import Curve
from trainer.runs import Run


@dataclass(frozen=True, slots=True)
class Paired:
    """A run minus the first one, user by user.

    Attributes:
        users: Number of common users.
        metrics: Mean differences with intervals; one that excludes 0 is significant.
    """

    users: int
    metrics: dict[str, Metric]


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run.

    Attributes:
        name: Its directory's name, or more of its path if two have the same name.
        path: Its directory.
        dataset, protocol, split: What was measured.
        metrics: As in its report.
        fit_seconds: Duration of the process that finished the training; None if not recorded.
        evaluate_seconds: Duration of the ranking only.
        epochs: Number of training epochs.
        curve: Curve of the phase that chose the number of epochs; None without a validation part.
        versus_first: Difference to the first run; None if it is the first, was evaluated on other users, or has no file
            of per-user metrics.
    """

    name: str
    path: str
    dataset: str
    protocol: str
    split: str
    metrics: dict[str, Metric]
    fit_seconds: float | None
    evaluate_seconds: float
    epochs: int | None
    curve: Curve | None
    versus_first: Paired | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs.

    Attributes:
        runs: In the order given.
        settings: Dotted name -> value in each run, for settings that differ; None if a run has no such setting.
        schema: Version of this format.
    """

    runs: list[ComparedRun]
    settings: dict[str, list[Any]] = field(default_factory=dict)
    schema: int = 1

    def to_json(self) -> str:
        """Indented JSON."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"


_ADAPTER: Final = TypeAdapter(Comparison)


def compare_runs(paths: Sequence[Path], *, stem: str = DEFAULT_STEM, curves: bool = True) -> Comparison:
    """Reads evaluated runs.

    Args:
        paths: Run directories, two or more; paired differences are to the first.
        stem: Name of the report, such as ``evaluation-p2-kmrd``.
        curves: Whether to read their curves, which takes seconds.

    Raises:
        BabelrecError: fewer than two runs, a repeated one, one without that report, or reports of different protocols.
    """
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        raise BabelrecError("compare needs two or more different run directories.")
    runs = [Run.open(path) for path in paths]
    reports = [load(path / f"{stem}.json") for path in paths]
    kinds = list(dict.fromkeys((report.dataset, report.protocol, report.split) for report in reports))
    if len(kinds) > 1:
        measured = "; ".join(f"{dataset} by {protocol} on {split}" for dataset, protocol, split in kinds)
        raise BabelrecError(
            f"These runs were evaluated on different data or protocols, so can't be compared: {measured}. Compare runs "
            "of one dataset and protocol, or choose a report that all have with --report."
        )
    users = [_users(path, stem) for path in paths]
    names = _names(paths)
    drawn = _curves(runs) if curves else [None] * len(runs)
    found = [
        _compared(name, run, report, _paired(table, users[0], run) if number else None, curve)
        for number, (name, run, report, table, curve) in enumerate(zip(names, runs, reports, users, drawn, strict=True))
    ]
    return Comparison(found, _differing(runs))


def _users(path: Path, stem: str) -> pl.DataFrame | None:
    file = path / f"{stem}-users.parquet"
    if not file.exists():
        return None
    try:
        return pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BabelrecError(f"{file} can't be read ({error}). Remedy: evaluate the run again.") from error


def _paired(table: pl.DataFrame | None, first: pl.DataFrame | None, run: Run) -> Paired | None:
    if table is None or first is None:
        return None
    table, first = table.sort("user_id"), first.sort("user_id")
    if not table["user_id"].equals(first["user_id"]):
        return None
    own, other = (
        PerUserMetrics({name: each[name].to_numpy() for name in each.columns if name != "user_id"}, {})
        for each in (table, first)
    )
    settings = run.config
    difference = own.minus(other)
    metrics = difference.summary(resamples=settings.evaluation.bootstrap_samples, seed=settings.seed)
    return Paired(table.height, metrics)


def _curves(runs: Sequence[Run]) -> list[Curve | None]:
    # TensorBoard imports TensorFlow to read events.
    from trainer.evaluation.report.validation_curves import validation_curve

    return [validation_curve(run) for run in runs]


def _compared(name: str, run: Run, report: EvaluationReport, paired: Paired | None, curve: Curve | None) -> ComparedRun:
    history = run.read("history.json") if (run.path / "history.json").exists() else {}
    return ComparedRun(
        name=name,
        path=str(run.path),
        dataset=report.dataset,
        protocol=report.protocol,
        split=report.split,
        metrics=report.metrics,
        fit_seconds=history.get("seconds"),
        evaluate_seconds=report.seconds,
        epochs=history.get("epochs"),
        curve=curve,
        versus_first=paired,
    )


def _names(paths: Sequence[Path]) -> list[str]:
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    settings = [flat_settings(run.config) for run in runs]
    keys = dict.fromkeys(key for each in settings for key in each if key != "name")
    rows = {key: [each.get(key) for each in settings] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}
