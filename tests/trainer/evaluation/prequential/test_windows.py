"""Windows with equally many events, and what was known before them, against plain lists."""

import itertools
from pathlib import Path

import pytest

from tests.trainer.evaluation.prequential import streams
from tests.trainer.evaluation.prequential.streams import Event
from trainer.errors import BabelrecError
from trainer.evaluation.prequential.windows import Window, cut, state_before
from trainer.evaluation.settings import PrequentialConfig


def _apart(number: int) -> list[Event]:
    return [Event("u", f"{place % 2 + 9}", 5_000 + 7 * place, "purchase", None) for place in range(number)][::-1]


@pytest.mark.parametrize(("number", "windows", "share"), [(100, 10, 0.3), (97, 4, 0.3), (31, 3, 0.5), (7, 2, 0.7)])
def test_windows_have_equally_many_events(tmp_path: Path, number: int, windows: int, share: float) -> None:
    found = cut(streams.write(tmp_path / "data", _apart(number)), PrequentialConfig(windows=windows, first_share=share))
    moments = sorted(event.moment for event in _apart(number))
    sizes = [sum(window.begin <= moment < window.end for moment in moments) for window in found]
    before = sum(moment < found[0].begin for moment in moments)
    assert max(sizes) - min(sizes) <= 1
    assert abs(before - share * number) <= 0.5 + 1e-9
    assert before + sum(sizes) == number
    assert [window.number for window in found] == list(range(1, windows + 1))
    for one, two in itertools.pairwise(found):
        assert (two.previous, two.begin) == (one.begin, one.end)
    assert abs(sum(found[0].previous <= moment < found[0].begin for moment in moments) - sizes[0]) <= 1


def test_events_of_one_moment_stay_together(tmp_path: Path) -> None:
    moments = [1, 2, 3, 4, 5, 5, 5, 5, 5, 9]
    events = [Event("u", "9", moment, "purchase", None) for moment in moments]
    first, second = cut(streams.write(tmp_path / "data", events), PrequentialConfig(windows=2, first_share=0.2))
    # In halves of four events, the cut would fall between two events of the same moment.
    assert (first.begin, first.end, second.end) == (3, 5, 10)
    assert first.name == "1 from 1970-01-01"


@pytest.mark.parametrize("moments", [[4] * 40, [4] * 20 + [5] * 20, list(range(4))])
def test_too_few_moments(tmp_path: Path, moments: list[int]) -> None:
    events = [Event("u", "9", moment, "purchase", None) for moment in moments]
    with pytest.raises(BabelrecError, match=r"different timestamps.*Use fewer windows"):
        cut(streams.write(tmp_path / "data", events), PrequentialConfig(windows=8))


def test_the_state_before_a_moment(tmp_path: Path) -> None:
    events = streams.events_of(0)
    dataset = streams.write(tmp_path / "data", events)
    moment = 1_030
    found = state_before(dataset, moment, tmp_path / "before")
    earlier = [each for each in events if each.moment < moment]
    kept = found.interactions().collect()
    assert [Event(*row) for row in kept.iter_rows()] == earlier
    items, users = {each.item for each in earlier}, {each.user for each in earlier}
    assert set(found.items().collect()["item_id"]) == items
    assert {"d", "never"}.isdisjoint(items)
    profiles, translations = found.users(), found.translations()
    assert profiles is not None
    assert translations is not None
    assert set(profiles.collect()["user_id"]) == users
    assert set(translations.collect()["item_id"]) == {"a"}
    assert state_before(dataset, moment, tmp_path / "before").fingerprint == found.fingerprint


def test_a_window_s_name_and_bounds() -> None:
    assert Window(3, 0, 881_654_802, 881_654_900).name == "3 from 1997-12-09"
