"""Items of users in the order of time, against lists."""

import numpy as np
import polars as pl
import pytest

from trainer.data.catalogue import Catalogue
from trainer.data.user_items import UserItems, by_time

_LISTS = [[4, 1, 1], [], [0], [3, 2, 4, 0]]


@pytest.fixture
def some() -> UserItems:
    return UserItems.of_lists(_LISTS)


def _lists(some: UserItems) -> list[list[int]]:
    return [some.of_user(user).tolist() for user in range(len(some))]


def test_what_was_put_in_comes_out(some: UserItems) -> None:
    assert _lists(some) == _LISTS
    assert some.sizes().tolist() == [3, 0, 1, 4]
    assert some.users().tolist() == [0, 0, 0, 2, 3, 3, 3, 3]


def test_parts(some: UserItems) -> None:
    assert _lists(some[1:3]) == _LISTS[1:3]
    assert _lists(some[2:99]) == _LISTS[2:]
    assert _lists(some[3:1]) == []
    chosen = [3, 0, 3, 1]
    assert _lists(some.at(np.array(chosen))) == [_LISTS[user] for user in chosen]
    assert _lists(some.at(np.array([], np.int64))) == []
    marked = np.array([True, False, False, True, True])
    assert _lists(some.only(marked)) == [[item for item in items if marked[item]] for items in _LISTS]
    names = np.array([10, 11, 12, 13, 14])
    assert _lists(some.reindexed(names)) == [[10 + item for item in items] for items in _LISTS]


def test_the_newest_come_first(some: UserItems) -> None:
    assert some.newest(2).tolist() == [[1, 1], [-1, -1], [0, -1], [0, 4]]
    assert some.padded().tolist() == [[1, 1, 4, -1], [-1] * 4, [0, -1, -1, -1], [0, 4, 2, 3]]
    assert UserItems.of_lists([[], []]).newest(3).tolist() == [[-1] * 3] * 2
    assert UserItems.of_lists([]).padded().shape == (0, 0)


def test_equal_times_are_ordered_by_numeric_ids() -> None:
    events = pl.DataFrame({"item_id": ["10", "9", "b", "2"], "timestamp": [5, 5, 5, 1]})
    assert events.sort(by_time())["item_id"].to_list() == ["2", "9", "b", "10"]


def test_events_are_grouped_by_the_users_asked_for() -> None:
    catalogue = Catalogue(["10", "2", "9"], [""] * 3, [""] * 3, ["en"] * 3, [], np.full((3, 1), -1, np.int32), {}, {})
    events = pl.DataFrame(
        {
            "user_id": ["u", "v", "u", "u", "other"],
            "item_id": ["10", "2", "9", "2", "2"],
            "timestamp": [7, 1, 7, 3, 0],
        }
    )
    some = UserItems.of(events, catalogue, ["v", "nobody", "u", "v"])
    named = [[catalogue.item_ids[row] for row in items] for items in _lists(some)]
    assert named == [["2"], [], ["2", "9", "10"], ["2"]]
