"""Statistics of a run's catalogue: what they are, and when stored ones are used."""

import dataclasses
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.data.catalogue import Catalogue
from trainer.data.split import training_part
from trainer.models import statistics as module
from trainer.models.assembly import fit_statistics, item_table_of_run, load_recommender
from trainer.models.statistics import STATISTICS_FILE, RunStatistics, load_statistics, save_statistics
from trainer.runs import Run

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def fitted(tiny_run: Run) -> RunStatistics:
    dataset = tiny_run.dataset()
    return fit_statistics(tiny_run, Catalogue.from_dataset(dataset), training_part(dataset, tiny_run.config))


@pytest.fixture
def run(tiny_run: Run, fitted: RunStatistics, tmp_path: Path) -> Run:
    """A copy of the run, with the statistics stored."""
    shutil.copytree(tiny_run.path, tmp_path / "run")
    copy = Run.open(tmp_path / "run")
    save_statistics(copy, fitted)
    return copy


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  a dataclass or what it holds
    """Every leaf of nested dataclasses, by its path."""
    if not dataclasses.is_dataclass(value):
        yield name, value
        return
    for field in dataclasses.fields(value):
        yield from flat(getattr(value, field.name), f"{name}.{field.name}")


def test_they_describe_the_run_s_catalogue(tiny_run: Run, fitted: RunStatistics) -> None:
    dataset = tiny_run.dataset()
    catalogue = Catalogue.from_dataset(dataset)
    items = item_table_of_run(tiny_run, catalogue)
    vectors = load_recommender(tiny_run, items).candidate_vectors(items).numpy()
    counts = training_part(dataset, tiny_run.config).train["item_id"].value_counts()["count"].to_numpy()
    search = fitted.search
    assert search is not None
    np.testing.assert_allclose(search.towers.mean, vectors.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(search.towers.covariance, np.cov(vectors.T, bias=True), atol=1e-6)
    assert search.spread == pytest.approx((np.log(counts).mean(), np.log(counts).std()))
    assert search.means.languages == sorted(set(catalogue.languages))
    directions = search.projection.T @ search.projection
    np.testing.assert_allclose(directions, np.eye(len(directions)), atol=1e-5)


def test_stored_ones_are_the_same(run: Run, fitted: RunStatistics) -> None:
    stored = load_statistics(run)
    assert stored is not None
    for (name, before), (other, after) in zip(flat(fitted), flat(stored), strict=True):
        assert name == other
        np.testing.assert_array_equal(np.asarray(before), np.asarray(after), err_msg=name)


def test_those_of_other_weights_data_or_settings_are_not_used(run: Run) -> None:
    assert load_statistics(Run.open(run.path, ["export.candidates=3"])) is not None
    assert load_statistics(Run.open(run.path, ["model.search.dimension=16"])) is None
    data = run.read("data.json")
    run.write("data.json", data | {"fingerprint": "0" * 64})
    assert load_statistics(run) is None
    run.write("data.json", data)
    assert load_statistics(run) is not None
    (run.weights / "checkpoint").write_text("other")
    assert load_statistics(run) is None


@pytest.mark.parametrize("kept", [0, 0.5, 1])
def test_a_damaged_file_is_not_used(run: Run, kept: float, caplog: pytest.LogCaptureFixture) -> None:
    path = run.path / STATISTICS_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content[: int(kept * len(content))])
    with caplog.at_level(logging.WARNING):
        assert load_statistics(run) is None
    assert "statistics.npz is damaged" in caplog.text


@pytest.mark.parametrize("missing", ["projection", "key", "parts"])
def test_a_file_that_lacks_something_is_not_used(run: Run, missing: str, caplog: pytest.LogCaptureFixture) -> None:
    path = run.path / STATISTICS_FILE
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != missing}
    np.savez(path, allow_pickle=False, **arrays)
    with caplog.at_level(logging.WARNING):
        assert load_statistics(run) is None
    assert "statistics.npz is damaged" in caplog.text


@pytest.mark.parametrize(("code", "fails"), [(errno.EROFS, False), (errno.EACCES, False), (errno.ENOSPC, True)])
def test_a_run_that_can_not_be_written_is_read(
    run: Run,
    fitted: RunStatistics,
    code: int,
    fails: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(code, "no", str(path))

    monkeypatch.setattr(module, "atomic_file", refuse)
    if fails:
        with pytest.raises(OSError, match="no"):
            save_statistics(run, fitted)
        return
    save_statistics(run, fitted)
    assert "can't be stored" in caplog.text
