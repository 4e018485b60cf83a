"""Users, sessions, rules and the log."""

import json

from tests.serving.service.api.inside import Inside, event, problem
from tests.serving.service.databases import BOTH

pytestmark = BOTH


def test_a_profile(service: Inside) -> None:
    profile = {"languages": ["ar", "fr"], "country": "MA", "attributes": {"tier": "ذهبي"}}
    url = "/v1/users/%D8%B9%D8%A7%D8%A6%D8%B4%D8%A9%2F1"
    problem(service.call("GET", url), 404)
    assert service.call("PUT", url, profile).json() == profile | {"user_id": "عائشة/1"}
    assert service.call("GET", url).json()["country"] == "MA"
    problem(service.call("PUT", url, profile | {"country": "morocco"}), 422)
    problem(service.call("PUT", "/v1/users/session:1", profile), 422)


def test_export_and_erasure(service: Inside) -> None:
    service.call("PUT", "/v1/users/대한", {"languages": ["ko"]})
    service.call("POST", "/v1/events", [event(1, user_id="대한"), event(2), event(3, session_id="other")])
    assert service.call("POST", "/v1/sessions/visit/user", {"user_id": "대한"}, key="app").status_code == 200
    exported = service.call("GET", "/v1/users/대한/export").json()
    assert exported["profile"]["languages"] == ["ko"]
    assert sorted(each["event"] for each in exported["events"]) == ["click", "click", "login"]
    assert {"e-1", "e-2"} < {each["event_id"] for each in exported["events"]}
    assert service.call("DELETE", "/v1/users/대한").json() == {"deleted": True}
    assert service.call("DELETE", "/v1/users/대한").json() == {"deleted": False}
    assert [each.event_id for each in service.store.events_after("")[0]] == ["e-3"]
    assert "대한" not in json.dumps(service.call("GET", "/v1/audit").json(), ensure_ascii=False)


def test_a_session_has_one_user(service: Inside) -> None:
    assert service.call("POST", "/v1/sessions/s/user", {"user_id": "a"}).json() == {"session_id": "s", "user_id": "a"}
    assert service.call("POST", "/v1/sessions/s/user", {"user_id": "a"}).status_code == 200
    assert "another user" in problem(service.call("POST", "/v1/sessions/s/user", {"user_id": "b"}), 409)


def test_tokens(service: Inside) -> None:
    first = service.call("POST", "/v1/tokens", {}, key="app").json()
    second = service.call("POST", "/v1/tokens", {"user_id": "u"}, key="app").json()
    assert first["user_id"] == ""
    assert first["session_id"] != second["session_id"]
    assert len(first["session_id"]) >= 20
    assert service.call("POST", "/v1/recommendations", {}, key=first["token"]).status_code == 200
    assert service.recommender.asked[0].session_id == first["session_id"]


_RULES = """
rules:
  - name: 岩手を上に
    kind: boost
    where: {seller: {equals: 岩手商店}}
    multiply: 1.2
"""


def test_rules(service: Inside) -> None:
    assert service.call("GET", "/v1/rules").text == ""
    answer = service.call("PUT", "/v1/rules", _RULES, headers={"Content-Type": "application/yaml"}).json()
    assert answer["revision"] == 1
    assert [each["column"] for each in answer["warnings"]] == ["seller"]
    item = {"language": "ja", "attributes": {"seller": "岩手商店"}}
    service.call("PUT", "/v1/items/1", item)
    assert service.call("PUT", "/v1/rules", _RULES).json() == {"revision": 2, "warnings": []}
    found = service.call("GET", "/v1/rules", key="read-only")
    assert (found.text, found.headers["etag"]) == (_RULES, '"2"')
    assert service.call("PUT", "/v1/rules", _RULES, headers={"If-Match": '"2"'}).status_code == 200
    problem(service.call("PUT", "/v1/rules", _RULES, headers={"If-Match": '"2"'}), 412)


def test_rules_are_tried_without_being_stored(service: Inside) -> None:
    service.call("PUT", "/v1/rules", "rules: []")
    form = {"rules": _RULES, "requests": [{"user_id": "민수", "k": 2}, {"query": "急須", "k": 3}]}
    found = service.call("POST", "/v1/rules/preview", form).json()
    assert [[len(each[side]["items"]) for side in ("before", "after")] for each in found["effects"]] == [[2, 2], [3, 3]]
    assert [each["column"] for each in found["warnings"]] == ["seller"]
    assert service.recommender.previews == [("민수", "rules: []"), ("민수", _RULES), ("", "rules: []"), ("", _RULES)]
    assert service.store.rules() == ("rules: []", 1)
    problem(service.call("POST", "/v1/rules/preview", form, key="app"), 403)
    problem(service.call("POST", "/v1/rules/preview", form, key="read-only"), 403)
    problem(service.call("POST", "/v1/rules/preview", form | {"rules": "rules: [{name: x}]"}), 422)
    problem(service.call("POST", "/v1/rules/preview", form | {"requests": []}), 422)
    problem(service.call("POST", "/v1/rules/preview", form | {"requests": [{}] * 11}), 422)


def test_the_example_in_the_docs_is_valid(service: Inside) -> None:
    operation = service.call("GET", "/openapi.json").json()["paths"]["/v1/rules"]["put"]
    example = operation["requestBody"]["content"]["application/yaml"]["example"]
    assert service.call("PUT", "/v1/rules", example).status_code == 200


def test_malformed_rules(service: Inside) -> None:
    for body in (
        "rules: [{name: x}]",
        "a: *b",
        "{",
        "rules: 5",
        "x" * 2_000_000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ):
        response = service.call("PUT", "/v1/rules", body)
        problem(response, 400 if isinstance(body, bytes) else 422)
    assert service.store.rules() == ("", 0)


def test_the_log_is_bounded(service: Inside) -> None:
    problem(service.call("GET", "/v1/audit?limit=0"), 422)
    problem(service.call("GET", "/v1/audit?limit=1001"), 422)
    problem(service.call("GET", "/v1/audit?limit=x"), 422)
