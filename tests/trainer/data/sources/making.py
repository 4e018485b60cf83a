"""A shop's two tables, written and prepared by the tabular source."""

from pathlib import Path

import pytest

from trainer.data.dataset import Dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import TabularSource
from trainer.data.sources import prepare

LOG = "user_id,item_id,timestamp,event,value\nu1,007,1700000000,rating,4\nü2,8,1700000001,view,\n"
CATALOGUE = "item_id,title,language,categories\n007,제임스 본드,ko,영화|고전\n8,Tea pot,en,\n"


def make(folder: Path, log: str = LOG, catalogue: str = CATALOGUE, **settings: object) -> Dataset:
    """The dataset of both texts; ``settings`` may name other files."""
    (folder / "log.csv").write_text(log, encoding="utf-8", newline="")
    (folder / "catalogue.csv").write_text(catalogue, encoding="utf-8", newline="")
    source = {"interactions": folder / "log.csv", "items": folder / "catalogue.csv"} | settings
    return prepare(TabularSource.model_validate(source))


def fault(folder: Path, log: str = LOG, catalogue: str = CATALOGUE, **settings: object) -> str:
    """The error raised by `make`; checks that nothing is left in the cache."""
    before = sorted((folder / "cache").glob("datasets/*"))
    with pytest.raises(DatasetError) as caught:
        make(folder, log, catalogue, **settings)
    assert "Remedy: " in str(caught.value)
    assert sorted((folder / "cache").glob("datasets/*")) == before
    return str(caught.value)
