"""People and items as an administrator looks for them."""

import pytest

from serving.service.store import InvalidError, Store
from serving.service.types import User
from tests.serving.service.store.samples import IDS, NOON, event, item


def test_people_by_the_start_of_their_ids(store: Store) -> None:
    for user_id in IDS[:-1]:
        store.put_user(User(user_id=user_id, languages=["ja"]))
    store.append_events([event(f"e{number}", user_id=user_id) for number, user_id in enumerate(IDS[::2])])
    for user_id in IDS[:-1]:
        assert [each.user_id for each in store.find_people(user_id)] == [user_id]
    assert [each.user_id for each in store.find_people("a", 1)] == ["a" * 500]
    assert store.find_people("b") == []
    with pytest.raises(InvalidError, match="text"):
        store.find_people("\0")


def test_people_who_were_active_come_first(store: Store) -> None:
    store.put_user(User(user_id="aaa"))
    events = [event("1", user_id="old"), event("2", user_id="new", timestamp=NOON + 1)]
    store.append_events(
        [*events, event("3", user_id="", session_id="s"), event("4", user_id="old", timestamp=NOON - 9)]
    )
    found = store.find_people()
    assert [(each.user_id, each.last_event) for each in found] == [("new", NOON + 1), ("old", NOON), ("aaa", None)]
    assert len(store.find_people(limit=2)) == 2


def test_items_by_id_and_title(store: Store) -> None:
    store.put_items([item("1", title="Чайник"), item("2", title="100 % wool"), item("3", title="", available=False)])
    store.patch_item("1", {"description": "new"})
    assert [each.item_id for each in store.find_items()] == ["1", "3", "2"]
    assert [each.item_id for each in store.find_items("ЧАЙ")] == ["1"]
    assert [each.item_id for each in store.find_items("0 %")] == ["2"]
    assert [each.item_id for each in store.find_items("1")] == ["1", "2"]
    assert len(store.find_items(limit=1)) == 1
