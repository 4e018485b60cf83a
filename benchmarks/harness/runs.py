"""Trained runs, kept in runs/bench/quality/runs/ by their settings and the sources that trained them."""

import logging
import shutil
from pathlib import Path

from benchmarks.harness.sources import any_source_accepted, digest
from benchmarks.harness.store import RESULTS, key_of
from trainer.config.settings import Config, dump_config
from trainer.files import write_text
from trainer.runs import Run

RUNS = RESULTS / "quality/runs"
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
_LOG = logging.getLogger(__name__)
_SOURCES_FILE = "sources.txt"


def run_directory(config: Config) -> Path:
    """Where a run of these settings is kept."""
    settings = config.model_copy(update={"evaluation": type(config.evaluation)(), "export": type(config.export)()})
    return (RUNS / f"{config.name}-{config.seed}-{key_of(dump_config(settings))}").absolute()


def run_of(config: Config) -> Run:
    """The finished run of these settings; trained or resumed if missing, retrained if the source has changed."""
    # TensorFlow takes seconds to import.
    from trainer.training.fit import fit

    directory, sources = run_directory(config), digest(LEARNING)
    record = directory / _SOURCES_FILE
    if directory.exists() and (not record.exists() or record.read_text(encoding="utf-8") != sources):
        if any_source_accepted():
            _LOG.warning("%s was trained by another version of the source; reusing it.", directory)
        else:
            _LOG.info("%s was trained by another version of the source; retraining.", directory)
            shutil.rmtree(directory)
    if not directory.exists():
        directory.mkdir(parents=True)
        write_text(record, sources)
    return fit(config, directory)
