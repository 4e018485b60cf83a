"""Items."""

import pytest

from serving.service.types import Item
from tests.serving.service.api.inside import Inside, problem
from tests.serving.service.databases import BOTH

pytestmark = BOTH

_ITEM = {
    "language": "th",
    "title": "หม้อหุงข้าว",
    "description": "مصنوع من الفولاذ",
    "categories": ["เครื่องครัว"],
    "numbers": {"price": 890},
    "embeddings": {"image": [0.5, -1]},
    "attributes": {"seller": "岩手商店", "new": True, "stock": 3, "margin": 0.5},
    "available": True,
    "valid_from": 5,
    "valid_until": None,
}


@pytest.mark.parametrize(
    ("item_id", "quoted"),
    [
        ("1003", "1003"),
        ("急須", "%E6%80%A5%E9%A0%88"),
        ("a/b", "a%2Fb"),
        ("../x", "..%2Fx"),
        ("a b+c", "a%20b+c"),
        ("100%", "100%25"),
        ("%41", "%2541"),
        ("🛍️", "%F0%9F%9B%8D%EF%B8%8F"),
        ("?x=1#y", "%3Fx=1%23y"),
    ],
)
def test_one_item(service: Inside, item_id: str, quoted: str) -> None:
    url = f"/v1/items/{quoted}"
    problem(service.call("GET", url), 404)
    assert service.call("PUT", url, _ITEM).json() == {"revisions": {item_id: 1}}
    assert service.store.items([item_id]) == {item_id: Item(item_id=item_id, **_ITEM)}  # type: ignore[arg-type]
    assert service.call("GET", url, key="read-only").json() == _ITEM | {"item_id": item_id}
    assert service.call("PUT", url, _ITEM).json() == {"revisions": {}}
    patched = service.call("PATCH", url, {"available": False, "numbers": {"price": None, "stars": 4.5}}).json()
    assert (patched["revision"], patched["item"]["numbers"]) == (2, {"stars": 4.5})
    assert service.call("DELETE", url).json() == {"deleted": {item_id: True}}
    assert service.call("DELETE", url).json() == {"deleted": {item_id: False}}
    problem(service.call("GET", url), 404)
    problem(service.call("PATCH", url, {"title": "x"}), 404)


def test_batches(service: Inside) -> None:
    items = [_ITEM | {"item_id": each} for each in ("가방", "حقيبة", "b")]
    assert service.call("PUT", "/v1/items", {"items": items}).json()["revisions"] == {"가방": 1, "حقيبة": 1, "b": 1}
    answer = service.call("DELETE", "/v1/items", {"item_ids": ["가방", "none"]}).json()
    assert answer == {"deleted": {"가방": True, "none": False}}
    assert service.store.count_items() == 2
    detail = problem(service.call("PUT", "/v1/items", {"items": [*items, {"item_id": "x"}]}), 422)
    assert "items.3.language" in detail
    problem(service.call("PUT", "/v1/items", {"items": [items[0]] * 1001}), 422)


@pytest.mark.parametrize("quoted", ["%FF", "e%CC%81", "a%00", "%0A", "x" * 257, "%ED%A0%80"])
def test_ids_in_paths_are_checked(service: Inside, quoted: str) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert "item_id" in problem(service.call(method, f"/v1/items/{quoted}", {"language": "ja"}), 422)


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": {"price": "8"}},
        {"attributes": {"x": [1]}},
        {"attributes": {"x": 2**64}},
        {"available": "yes"},
        {"valid_from": -1},
        {"embeddings": {"image": 5}},
        {"titel": "x"},
        {"categories": "Kitchen"},
        {"item_id": "other"},
    ],
)
def test_malformed_items(service: Inside, change: dict[str, object]) -> None:
    problem(service.call("PUT", "/v1/items/1", _ITEM | change), 422)
    service.call("PUT", "/v1/items/1", _ITEM)
    problem(service.call("PATCH", "/v1/items/1", change), 422)


@pytest.mark.parametrize(
    "body",
    [
        '{"language": "ja", "numbers": {"p": NaN}}',
        '{"language": "ja", "numbers": {"p": 1e999}}',
        '{"language": "ja", "title": "\\ud800"}',
        "{",
        "5",
        "[" * 3000,
    ],
)
def test_bodies_that_are_no_items(service: Inside, body: str) -> None:
    response = service.call("PUT", "/v1/items/1", body)
    assert response.status_code in (400, 422)
    problem(response, response.status_code)
    problem(
        service.call("PATCH", "/v1/items/1", body),
        422 if "language" not in body else service.call("PATCH", "/v1/items/1", body).status_code,
    )


def test_changes_are_in_the_log(service: Inside) -> None:
    service.call("PUT", "/v1/items/急", _ITEM)
    service.call("PATCH", "/v1/items/急", {"title": "x"})
    service.call("DELETE", "/v1/items/急")
    entries = service.call("GET", "/v1/audit?limit=3", key="read-only").json()
    assert [(each["actor"], each["action"], each["target"]) for each in entries] == [
        ("admin", "delete item", "急"),
        ("admin", "patch item", "急"),
        ("admin", "put item", "急"),
    ]
