"""Figures of the service in TensorBoard's files."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from serving.service.store import Store, StoreError, open_store
from serving.service.types import Event, ShownItem, ShownRecommendation
from trainer.updating.outcomes import FOLDER, OutcomeCurves

_NOW = 1_750_000_000
_HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """40 people were shown two items each an hour ago; 20 clicked on one: all who read Korean, nobody else."""
    people = [(f"사람{number}", "ko" if number % 2 else "ar") for number in range(40)]
    items = [ShownItem(item_id=f"物{place}", score=1.0 - place) for place in range(2)]
    answers = [
        ShownRecommendation(
            recommendation_id=f"r{user}",
            timestamp=_NOW - _HOUR,
            items=items,
            user_id=user,
            language=language,
            country="",
            model_version=7,
        )
        for user, language in people
    ]
    clicks = [
        Event(
            event_id=f"e{user}",
            event="click",
            timestamp=_NOW - 3000,
            item_id="物1",
            recommendation_id=f"r{user}",
            user_id=user,
        )
        for user, language in people
        if language == "ko"
    ]
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        opened.log_recommendations(answers)
        opened.append_events(clicks)
        yield opened


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps with values."""
    files = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(each.step, float(make_ndarray(each.tensor_proto))) for each in files.Tensors(tag)]
        for tag in files.Tags()["tensors"]
    }


def test_figures_are_scalars_with_the_ends_of_their_intervals(store: Store, tmp_path: Path) -> None:
    curves = OutcomeCurves(store, tmp_path, _HOUR, 24.0)
    assert curves.write_if_due(_NOW)
    values = _scalars(tmp_path / FOLDER)
    assert values["ctr/all"] == [(_NOW, 0.25)]
    assert values["ctr/7/ko"] == [(_NOW, 0.5)]
    assert values["ctr/7/ar"] == [(_NOW, 0.0)]
    low, high = (_scalars(tmp_path / FOLDER / f"interval_{end}")["ctr/all"][0][1] for end in ("low", "high"))
    assert 0.1 < low < 0.25 < high < 0.5
    # Nobody rated anything: there is no figure, not a zero.
    assert "satisfaction/all" not in values


def test_they_are_written_when_it_is_time_also_after_a_restart(store: Store, tmp_path: Path) -> None:
    first = OutcomeCurves(store, tmp_path, _HOUR, 24.0)
    assert first.write_if_due(_NOW)
    (written,) = (tmp_path / FOLDER).glob("events.out.*")
    os.utime(written, (_NOW, _NOW))
    again = OutcomeCurves(store, tmp_path, _HOUR, 24.0)
    assert not again.write_if_due(_NOW + _HOUR - 1)
    assert again.write_if_due(_NOW + _HOUR)
    assert len(list((tmp_path / FOLDER).glob("events.out.*"))) == 2
    assert not OutcomeCurves(store, tmp_path / "other", 0.0, 24.0).write_if_due(_NOW)
    assert not (tmp_path / "other").exists()


def test_a_store_that_cannot_be_read_is_logged(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def closed(*arguments: object, **named: object) -> None:
        raise StoreError("the database is away")

    monkeypatch.setattr(type(store), "count_answers", closed)
    with caplog.at_level(logging.WARNING):
        assert not OutcomeCurves(store, tmp_path, _HOUR, 24.0).write_if_due(_NOW)
    assert "the database is away" in caplog.text
    assert not (tmp_path / FOLDER).exists()
