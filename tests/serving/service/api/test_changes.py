"""What is stored counts in the same replica at once: the recommender hears of it before the answer."""

from serving.service.types import LOGIN, User
from tests.serving.service.api.inside import Inside
from tests.serving.service.databases import BOTH

pytestmark = BOTH

_ITEM = {"language": "ko", "title": "주전자"}


def test_items(service: Inside) -> None:
    heard = service.recommender.changes
    assert service.call("PUT", "/v1/items/a", _ITEM).status_code == 200
    assert [(each.item_id, each.revision, each.item and each.item.title) for each in heard] == [("a", 1, "주전자")]
    # What does not change it is no news.
    service.call("PUT", "/v1/items/a", _ITEM)
    assert len(heard) == 1
    service.call("PATCH", "/v1/items/a", {"available": False})
    assert (heard[-1].revision, heard[-1].item and heard[-1].item.available) == (2, False)
    batch = [{"item_id": "b", **_ITEM}, {"item_id": "c", **_ITEM}, {"item_id": "b", "language": "ja", "title": "急須"}]
    assert service.call("PUT", "/v1/items", {"items": batch}).status_code == 200
    assert {(each.item_id, each.item and each.item.language) for each in heard[2:]} == {("b", "ja"), ("c", "ko")}


def test_people_and_rules(service: Inside) -> None:
    told = service.recommender
    service.call("PUT", "/v1/users/大輔", {"languages": ["ja"]})
    assert told.users["大輔"] == User(user_id="大輔", languages=["ja"])
    service.call("DELETE", "/v1/users/大輔")
    assert told.users["大輔"] is None
    service.call("POST", "/v1/sessions/s1/user", {"user_id": "大輔"})
    assert [(each.event, each.user_id, each.session_id) for each in told.events] == [(LOGIN, "大輔", "s1")]
    assert told.rules_changes == 0
    assert service.call("PUT", "/v1/rules", "rules: []").status_code == 200
    assert told.rules_changes == 1
