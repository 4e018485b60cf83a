"""Rows of Babelrec itself: one config file, trained once per seed into runs/bench/quality/runs/ and then measured."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sources import digest
from benchmarks.suites.suite import OURS, Model
from trainer.config.loading import load_config
from trainer.config.settings import Config, dump_config
from trainer.data.category_names import names_digest
from trainer.files import write_text
from trainer.runs import Run

RUNS = Path("runs/bench/quality/runs")
_LOG = logging.getLogger(__name__)
_SOURCES_FILE = "sources.txt"
LEARNING = (
    "trainer/config/*.py",
    "trainer/runs.py",
    "trainer/data/**/*.py",
    "trainer/text/**/*.py",
    "trainer/towers/*.py",
    "trainer/models/*.py",
    "trainer/training/*.py",
    "trainer/evaluation/protocols/holdout.py",
    "trainer/evaluation/metrics/ranking.py",
    "trainer/evaluation/metrics/per_user.py",
)
"""Source files that affect training."""
MEASURING = (*LEARNING, "trainer/evaluation/**/*.py", "benchmarks/suites/*.py")


def configured(path: str, seed: int, overrides: Sequence[str] = (), *, start: str | None = None) -> Config:
    """A config file with a seed, starting from the run of another config file of the same seed.

    Args:
        path: Path from the repository root.
        seed: Replaces the file's seed.
        overrides: As for ``--set``.
        start: The other config file.
    """
    first = [] if start is None else [f"training.start_from={run_directory(configured(start, seed))}"]
    return load_config(Path(path), [*overrides, *first, f"seed={seed}"])


def run_directory(config: Config) -> Path:
    """Where a run of these settings is kept."""
    settings = config.model_copy(update={"evaluation": type(config.evaluation)(), "export": type(config.export)()})
    key = hashlib.sha256(dump_config(settings).encode()).hexdigest()[:12]
    return (RUNS / f"{config.name}-{config.seed}-{key}").absolute()


def trained(path: str, seed: int, overrides: Sequence[str] = (), *, start: str | None = None) -> Run:
    """The finished run of a config file; trained or resumed if missing.

    A run trained by other sources is retrained.
    """
    if start is not None:
        trained(start, seed)
    return run_of(configured(path, seed, overrides, start=start))


def run_of(config: Config) -> Run:
    """The finished run of these settings, as in `trained`."""
    # TensorFlow takes seconds to import.
    from trainer.training.fit import fit

    directory, sources = run_directory(config), digest(LEARNING)
    record = directory / _SOURCES_FILE
    if directory.exists() and (not record.exists() or record.read_text(encoding="utf-8") != sources):
        if not _ANY_SOURCE:
            _LOG.info("%s was trained by other sources; retraining.", directory)
            shutil.rmtree(directory)
        else:
            _LOG.warning("%s was trained by other sources and is reused.", directory)
    if not directory.exists():
        directory.mkdir(parents=True)
        write_text(record, sources)
    return fit(config, directory)


def _settings(config: Config) -> dict[str, Any]:
    """The settings in a file: new settings that are off don't invalidate old measurements, nor does another folder.

    A changed default shows in the digest of the sources, which ``--any-source`` ignores.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True)
    # The seed is recorded separately.
    settings.pop("seed", None)
    # Its kind is identified by its name, which is a default of the kind.
    settings.setdefault("data", {})["source"] = config.data.source.model_dump(mode="json")
    if config.data.category_names is not None:
        settings["data"]["category_names"] = names_digest(config.data.category_names)
    return settings


_ANY_SOURCE = False


def accept_any_source() -> None:
    """From now on runs are reused regardless of the sources that trained them."""
    global _ANY_SOURCE
    _ANY_SOURCE = True


def ours(
    path: str,
    measure: Callable[[Run, int], Mapping[str, float]],
    overrides: Sequence[str] = (),
    *,
    start: str | None = None,
    also: Mapping[str, Any] | None = None,
) -> Model:
    """The model `babelrec` with one config file.

    Args:
        path: The config file.
        measure: (finished run, seed) -> metric -> value.
        overrides: As for ``--set``.
        start: Config file of the run to start from.
        also: Additional facts that the metrics depend on.
    """

    def facts() -> dict[str, Any]:
        settings = _settings(configured(path, 0, overrides, start=start))
        if start is not None:
            settings["training"]["start_from"] = _settings(configured(start, 0))
        return {"config": path, "settings": settings, "measured": measure.__qualname__, **(also or {})}

    return Model(OURS, lambda seed: measure(trained(path, seed, overrides, start=start), seed), facts, MEASURING)
