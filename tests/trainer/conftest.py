"""Fixtures of the training side: a tiny dataset and a run on it, created once."""

from pathlib import Path

import pytest

from tests.trainer.tiny import tiny_config, tiny_dataset
from trainer.data.dataset import Dataset
from trainer.runs import Run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset of 61 items in five languages and 80 users."""
    return tiny_dataset(tmp_path_factory.mktemp("tiny") / "dataset")


@pytest.fixture(scope="session")
def tiny_run(tiny: Dataset, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on it."""
    from trainer.training.fit import fit

    return fit(tiny_config(tiny.path), tmp_path_factory.mktemp("run") / "tiny")
