"""Rows of Babelrec itself: one config file, trained once per seed into runs/bench/quality/runs/ and then measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.runs import LEARNING, run_directory, run_of
from benchmarks.harness.store import Model
from benchmarks.quality.suites.suite import OURS
from trainer.config.loading import load_config
from trainer.config.settings import Config
from trainer.data.category_names import names_digest
from trainer.runs import Run

MEASURING = (*LEARNING, "trainer/evaluation/**/*.py", "benchmarks/quality/suites/*.py")


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


def trained(path: str, seed: int, overrides: Sequence[str] = (), *, start: str | None = None) -> Run:
    """The finished run of a config file; trained or resumed if missing.

    A run trained by another version of the source is retrained.
    """
    if start is not None:
        trained(start, seed)
    return run_of(configured(path, seed, overrides, start=start))


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
