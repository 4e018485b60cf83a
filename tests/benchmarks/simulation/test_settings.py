from pathlib import Path

import pytest

from benchmarks.simulation.settings import WorldSettings, read_settings
from trainer.errors import BabelrecError


def test_a_file_and_changes(tmp_path: Path) -> None:
    file = tmp_path / "world.yaml"
    file.write_text("days: 9\npeople: {count: 70}\n")
    found = read_settings(file, ["behaviour.attraction.base=-1.0", "behaviour.examination.model=cascade"])
    assert (found.days, found.people.count, found.people.communities) == (9, 70, 6)
    assert (found.behaviour.attraction.base, found.behaviour.attraction.taste) == (-1.0, 3.0)
    assert found.behaviour.examination.model == "cascade"
    assert read_settings() == WorldSettings()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("people.cuont=5", "people.cuont"),
        ("people.count=many", "people.count"),
        ("people", "people.count=500"),
        ("days.length=5", "is no setting"),
        ("items.kind=0.9", "sum to 1"),
        ("languages.en.share=0.5", "sum to 1"),
        ("languages.en.countries={US: 0.5}", "countries of `en`"),
        ("people.count=3", "fewer people"),
        ("behaviour.examination={model: cascade, after_skip: 0.2, after_click: 0.5}", "after_click"),
        ("behaviour.fatigue.days=0.01", "fatigue.days"),
        ("people={count: [", "can't be read"),
    ],
)
def test_a_mistake_is_named(change: str, named: str) -> None:
    with pytest.raises(BabelrecError, match="Remedy") as error:
        read_settings(None, [change])
    assert named in str(error.value)


def test_a_file_that_is_not_there_or_has_no_settings(tmp_path: Path) -> None:
    with pytest.raises(BabelrecError, match="can't be read"):
        read_settings(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(BabelrecError, match="holds no settings"):
        read_settings(tmp_path / "list.yaml")
