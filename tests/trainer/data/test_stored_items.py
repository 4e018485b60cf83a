"""The items of a service's store as a dataset for an export."""

import sys
from pathlib import Path

import polars as pl
import pytest

from serving.service.importing import import_dataset
from serving.service.store import open_store
from serving.service.types import Item
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.stored_items import dataset_of_store
from trainer.errors import BabelrecError


def test_an_imported_catalogue_comes_back_as_it_was_with_what_has_changed(tiny: Dataset, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(url) as store:
        import_dataset(tiny.path, store)
        before = Catalogue.from_dataset(tiny)
        after = Catalogue.from_dataset(dataset_of_store(url, tiny, tmp_path / "same"))
        for name in ("item_ids", "titles", "texts", "languages", "category_labels"):
            assert getattr(after, name) == getattr(before, name), name
        assert (after.categories == before.categories).all()
        assert after.numeric.keys() == before.numeric.keys()
        for name, values in before.numeric.items():
            assert pl.Series(values).fill_nan(None).to_list() == pl.Series(after.numeric[name]).fill_nan(None).to_list()
        assert (after.embeddings["image"] == before.embeddings["image"]).all()
        store.put_items([Item(item_id="새것", language="ko", title="우주선", available=False)])
        store.delete_items(["i0"])
    changed = dataset_of_store(url, tiny, tmp_path / "changed")
    assert set(Catalogue.from_dataset(changed).item_ids) == {*before.item_ids, "새것"} - {"i0"}
    assert "i0" not in set(changed.interactions().collect()["item_id"])


def test_an_empty_store_and_missing_packages_are_reported(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BabelrecError, match="has no items"):
        dataset_of_store(f"sqlite:///{tmp_path / 'empty.db'}", tiny, tmp_path / "items")
    for name in [name for name in sys.modules if name.startswith("serving.service.store")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(BabelrecError, match=r"pip install 'babelrec\[service\]'"):
        dataset_of_store("sqlite:///x.db", tiny, tmp_path / "items")
