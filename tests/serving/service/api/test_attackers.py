"""What somebody with a token, a weak key or none may try: nobody reads or writes another person's data."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest

from serving.service.api.access.keys import add_key, hash_of
from serving.service.store import open_store
from tests.serving.service.api.inside import EmptyStore, Inside, event, problem

_ASKING = ("/v1/recommendations", "/v1/search", "/v1/similar", "/v1/rank")
_BODY = {"query": "x", "item_id": "1", "item_ids": ["1"]}


def _body(path: str, **fields: object) -> dict[str, object]:
    wanted = {"/v1/search": ("query",), "/v1/similar": ("item_id",), "/v1/rank": ("item_ids",)}.get(path, ())
    return {name: _BODY[name] for name in wanted} | fields


@pytest.mark.parametrize("path", _ASKING)
def test_a_token_asks_for_its_own_user(service: Inside, path: str) -> None:
    token = service.token("大輔", "visit")
    for fields in ({}, {"user_id": "大輔"}, {"session_id": "visit", "user_id": "大輔"}):
        assert service.call("POST", path, _body(path, **fields), key=token).status_code == 200
        asked = service.recommender.asked[-1]
        assert (asked.user_id, asked.session_id) == ("大輔", "visit")


@pytest.mark.parametrize("path", _ASKING)
@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "mallory"},
        {"user_id": "alice "},
        {"user_id": "аlice"},  # Cyrillic
        {"user_id": "ａｌｉｃｅ"},  # full width
        {"user_id": "Alice"},
        {"user_id": "alice\u200b"},
        {"user_id": "alice\u202e"},
        {"user_id": "ali\u00adce"},
        {"session_id": "other"},
        {"user_id": "alice", "session_id": "ｖisit"},
    ],
)
def test_a_token_for_somebody_else(service: Inside, path: str, fields: dict[str, object]) -> None:
    token = service.token("alice", "visit")
    problem(service.call("POST", path, _body(path, **fields), key=token), 403)
    assert not service.recommender.asked


@pytest.mark.parametrize("user_id", ["alice\u0000", "alice\n", "cafe\u0301"])
def test_ids_that_are_none(service: Inside, user_id: str) -> None:
    token = service.token("alice", "visit")
    problem(service.call("POST", "/v1/recommendations", {"user_id": user_id}, key=token), 422)
    problem(service.call("POST", "/v1/tokens", {"user_id": user_id}, key="app"), 422)
    assert not service.recommender.asked


def test_ids_elsewhere_change_nothing(service: Inside) -> None:
    token = service.token("alice", "visit")
    for url in ("/v1/recommendations?user_id=mallory", "/v1/recommendations?session_id=x&token=y&k=3"):
        assert service.call("POST", url, {}, key=token, headers={"X-User-Id": "mallory"}).status_code == 200
    assert {each.user_id for each in service.recommender.asked} == {"alice"}
    # Of a name that repeats in JSON the last one counts, for the check and for the answer alike.
    body = '{"user_id": "alice", "user_id": "mallory"}'
    problem(service.call("POST", "/v1/recommendations", body, key=token), 403)


@pytest.mark.parametrize("path", ["/v1/events", "/v1/ubi/events", "/v1/ubi/queries"])
def test_events_of_somebody_else(service: Inside, path: str) -> None:
    token = service.token("alice", "visit")
    line: dict[str, object] = {"action_name": "click", "timestamp": "2026-11-30T12:00:00Z", "user_query": "x"}
    line |= {"event_id": "1", "event": "click"} if path == "/v1/events" else {}
    for fields in ({"user_id": "mallory"}, {"session_id": "other"}, {"user_id": "аlice"}):
        foreign = (line if path != "/v1/events" else event(1, session_id="visit")) | fields
        if path == "/v1/events":
            foreign["timestamp"] = 1796000000
        problem(service.call("POST", path, {"events": [foreign]}, key=token), 403)
        problem(service.call("POST", path, {"events": [foreign], "token": token}, key=None), 403)
    assert service.store.events_after("")[0] == []


def test_events_of_ones_own(service: Inside) -> None:
    token = service.token("alice", "visit")
    lines = [{"event_id": "1", "event": "click", "propensity": 0.001}, event(2, session_id="visit", user_id="alice")]
    answer = service.call("POST", "/v1/events", {"events": lines}, key=token).json()
    assert [(each["event_id"], each["status"]) for each in answer["results"]] == [
        ("1", "accepted"),
        ("e-2", "accepted"),
    ]
    stored = service.store.events_after("")[0]
    assert {(each.user_id, each.session_id, each.propensity) for each in stored} == {("alice", "visit", None)}
    again = service.call("POST", "/v1/events", json.dumps({"events": lines, "token": token}), key=None)
    assert again.json()["duplicate"] == 2


def test_nobody_takes_or_finds_the_ids_of_others(service: Inside) -> None:
    service.call("POST", "/v1/events", [event("order", session_id="", user_id="bob", event="purchase")])
    token = service.token("alice", "visit")
    answer = service.call("POST", "/v1/events", [{"event_id": "e-order", "event": "click"}], key=token).json()
    assert answer["accepted"] == 1  # not: duplicate
    service.call("POST", "/v1/events", [{"event_id": "e-later", "event": "click"}], key=token)
    answer = service.call("POST", "/v1/events", [event("later", session_id="", user_id="bob")]).json()
    assert answer["accepted"] == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/users/alice"),
        ("GET", "/v1/users/alice/export"),
        ("GET", "/v1/users/alice%2Fexport"),
        ("GET", "/v1/users/bob/../alice/export"),
        ("GET", "/v1/users/bob%2f..%2falice/export"),
        ("DELETE", "/v1/users/alice"),
        ("PUT", "/v1/users/alice"),
        ("POST", "/v1/sessions/visit/user"),
        ("POST", "/v1/tokens"),
        ("GET", "/v1/items/1"),
        ("PUT", "/v1/items/1"),
        ("PATCH", "/v1/items/1"),
        ("DELETE", "/v1/items/1"),
        ("PUT", "/v1/items"),
        ("DELETE", "/v1/items"),
        ("GET", "/v1/rules"),
        ("PUT", "/v1/rules"),
        ("GET", "/v1/audit"),
        ("GET", "//v1/audit"),
        ("GET", "/v1/%61udit"),
        ("GET", "/V1/audit"),
    ],
)
def test_a_token_reaches_nothing_else(service: Inside, method: str, path: str) -> None:
    token = service.token("alice", "visit")
    for key in (token, None, "brk_" + "A" * 43):
        response = service.call(method, path, {"language": "ja"} if method in ("PUT", "POST") else None, key=key)
        assert response.status_code in ((401, 404) if key != token else (403, 404, 422)), (key, response.text)
        problem(response, response.status_code)


def test_every_address_has_a_guard(service: Inside) -> None:
    """No key: 401, whatever the address; except for those that are public."""
    public = {
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/redoc",
        "/docs/assets/{name}",
        "/v1/babelrec.js",
    }
    paths = service.call("GET", "/openapi.json", key=None).json()["paths"]
    seen = set()
    for path, operations in paths.items():
        for method in operations:
            if path in public:
                continue
            seen.add(path)
            response = service.call(method.upper(), path.replace("{", "").replace("}", ""), key=None)
            assert response.status_code in (400, 401), path
            if path not in ("/v1/events", "/v1/ubi/events", "/v1/ubi/queries"):
                assert response.status_code == 401
                assert response.headers["www-authenticate"].startswith("Bearer")
    assert len(seen) == 25


_FORBIDDEN: dict[str, list[tuple[str, str, object]]] = {
    "app": [
        ("GET", "/v1/users/u", None), ("GET", "/v1/users/u/export", None), ("DELETE", "/v1/users/u", None),
        ("PUT", "/v1/users/u", {}), ("PUT", "/v1/items/1", {"language": "ja"}), ("GET", "/v1/audit", None),
        ("PUT", "/v1/rules", "rules: []"), ("DELETE", "/v1/items", {"item_ids": ["1"]}),
        ("GET", "/v1/users?text=u", None), ("GET", "/v1/users/u/history", None),
    ],
    "read-only": [
        ("POST", "/v1/recommendations", {}), ("POST", "/v1/events", [event(1)]), ("POST", "/v1/tokens", {}),
        ("POST", "/v1/sessions/s/user", {"user_id": "u"}), ("GET", "/v1/users/u", None),
        ("GET", "/v1/users/u/export", None), ("PATCH", "/v1/items/1", {}), ("PUT", "/v1/rules", "rules: []"),
        ("GET", "/v1/users?text=u", None), ("GET", "/v1/users/u/history", None),
    ],
}  # fmt: skip


@pytest.mark.parametrize("role", list(_FORBIDDEN))
def test_roles(service: Inside, role: str) -> None:
    for method, path, body in _FORBIDDEN[role]:
        assert role in problem(service.call(method, path, body, key=role), 403)
    assert service.store.events_after("")[0] == []


def _claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    good = {"aud": "babelrec", "iat": now, "exp": now + 600, "key": "app", "sub": "alice", "sid": "visit"}
    return {name: value for name, value in (good | changes).items() if value is not None}


def _secret(service: Inside) -> str:
    return service.path.with_name("store.db.token_secret").read_text()


def _refused(service: Inside, token: str) -> None:
    problem(service.call("POST", "/v1/recommendations", {}, key=token), 401)
    problem(service.call("POST", "/v1/events", {"events": [], "token": token}, key=None), 401)


def test_forged_tokens(service: Inside) -> None:
    secret = _secret(service)
    good = jwt.encode(_claims(), secret, "HS256")
    assert service.call("POST", "/v1/recommendations", {}, key=good).status_code == 200
    head, payload, signature = good.split(".")

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    mallory = part(_claims(sub="mallory"))
    empty = (
        base64.urlsafe_b64encode(hmac.digest(b"", f"{head}.{mallory}".encode(), hashlib.sha256)).rstrip(b"=").decode()
    )
    for token in (
        f"{head}.{mallory}.{signature}",
        f"{part({'alg': 'none', 'typ': 'JWT'})}.{mallory}.",
        f"{part({'alg': 'None'})}.{mallory}.",
        f"{part({'alg': 'HS256'})}.{mallory}.",
        f"{head}.{mallory}.{empty}",
        f"{head}.{payload}",
        f"{head}.{payload}.{signature[:-2]}",
        f"{head}.{payload}.{signature}.{signature}",
        jwt.encode(_claims(), "0" * 64, "HS256"),
        jwt.encode(_claims(), secret, "HS512"),
        jwt.encode(_claims(), secret, "HS384"),
        jwt.encode(_claims(), "", "none"),
        jwt.encode(_claims(), "0" * 64, "HS256", headers={"kid": "../../dev/null"}),
        jwt.encode(_claims(), "0" * 64, "HS256", headers={"jwk": {"kty": "oct", "k": "MDAw"}, "jku": "http://evil/"}),
        "",
        ".",
        "..",
        "a" * 10_000,
        "é.é.é",
    ):
        _refused(service, token)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"exp": "never"},
        {"exp": float("inf")},
        {"aud": "other"},
        {"aud": None},
        {"key": "read-only"},
        {"key": "nobody"},
        {"key": ["app"]},
        {"key": None},
        {"sub": ["alice", "mallory"]},
        {"sub": {"a": 1}},
        {"sub": 5},
        {"sid": None},
        {"sid": 5},
        {"sub": "", "sid": ""},
        {"iat": None},
        {"iat": "x"},
        {"nbf": 10**11},
    ],
)
def test_claims_that_do_not_hold(service: Inside, changes: dict[str, object]) -> None:
    _refused(service, jwt.encode(_claims(**changes), _secret(service), "HS256"))


def test_a_token_expires(service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    token = service.token("alice", ttl=1)
    assert service.call("POST", "/v1/recommendations", {}, key=token).status_code == 200
    time.sleep(2.1)
    _refused(service, token)
    problem(service.call("POST", "/v1/tokens", {"user_id": "u", "ttl": 10**6}, key="app"), 422)


def test_tokens_end_with_the_key_that_made_them(service: Inside) -> None:
    service.keys["mobile"] = add_key(service.store, "mobile", "app")
    body = {"user_id": "alice"}
    token = service.call("POST", "/v1/tokens", body, key="mobile").json()["token"]
    assert service.call("POST", "/v1/recommendations", {}, key=token).status_code == 200
    with open_store(service.url) as other:
        other.revoke_key("mobile")
    time.sleep(2.1)  # as long as a replica may take
    _refused(service, token)
    problem(service.call("POST", "/v1/recommendations", {}, key="mobile"), 401)


def test_the_secret_is_kept(service: Inside) -> None:
    path = service.path.with_name("store.db.token_secret")
    assert path.stat().st_mode & 0o777 == 0o600
    token = service.token("alice")
    with Inside(service.url, service.keys) as second:
        assert second.call("POST", "/v1/recommendations", {}, key=token).status_code == 200


def test_another_secret(empty_store: EmptyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELREC_TOKEN_SECRET", "1" * 64)
    with Inside(*empty_store) as first:
        token = first.token("alice")
        assert not first.path.with_name("store.db.token_secret").exists()
    monkeypatch.setenv("BABELREC_TOKEN_SECRET", "2" * 64)
    with Inside(*empty_store) as second:
        _refused(second, token)


def test_keys_are_stored_as_hashes(service: Inside) -> None:
    content = service.path.read_bytes() + service.path.with_name("store.db-wal").read_bytes()
    for key in service.keys.values():
        assert len(key) >= 47
        assert key.encode() not in content
        assert hash_of(key).encode() in content
        # The hash is no key, nor is a part of a key, or one in another case.
        for wrong in (
            hash_of(key),
            "brk_" + hash_of(key),
            key[:-1],
            key + "A",
            key.swapcase(),
            key.removeprefix("brk_"),
        ):
            problem(service.call("GET", "/v1/audit", key=wrong), 401)


def test_other_schemes(service: Inside) -> None:
    for value in (
        f"Basic {service.keys['admin']}",
        service.keys["admin"],
        "Bearer",
        "Bearer ",
        "",
        f"bearer  {'x' * 9000}",
    ):
        problem(service.call("GET", "/v1/audit", key=None, headers={"Authorization": value}), 401)
    ok = service.call("GET", "/v1/audit", key=None, headers={"Authorization": f"bearer {service.keys['admin']}"})
    assert ok.status_code == 200


def test_a_key_in_a_body_is_refused(service: Inside) -> None:
    """What a page's script contains is known to everybody."""
    problem(service.call("POST", "/v1/events", {"events": [event(1)], "token": service.keys["app"]}, key=None), 401)


def test_bodies_without_a_header_are_small(service: Inside) -> None:
    body = {"events": [event(1, query="x" * 70_000)], "token": service.token("alice")}
    assert "65,536" in problem(service.call("POST", "/v1/events", body, key=None), 413)


def test_guesses_are_counted(empty_store: EmptyStore) -> None:
    with Inside(*empty_store, address_limit="5/minute") as service:
        for _ in range(5):
            problem(service.call("GET", "/v1/audit", key="brk_wrong"), 401)
        response = service.call("GET", "/v1/audit", key="brk_wrong")
        problem(response, 429)
        assert 1 <= int(response.headers["retry-after"]) <= 120
        # Keys are not refused because of somebody at the same address.
        assert service.call("GET", "/v1/audit").status_code == 200


def test_rates_of_keys_and_addresses(empty_store: EmptyStore) -> None:
    with Inside(*empty_store, key_limit="12/minute", address_limit="3/minute") as service:
        token = service.token("alice")
        codes = [service.call("POST", "/v1/recommendations", {}, key=token).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        other = service.call("POST", "/v1/recommendations", {}, key=token, address="2001:db8::1")
        assert other.status_code == 200
        for number in range(2, 4):
            service.call("POST", "/v1/recommendations", {}, key=token, address=f"2001:db8::{number}")
        # All of a /64 are one.
        problem(service.call("POST", "/v1/recommendations", {}, key=token, address="2001:db8::ffff"), 429)
        codes = [service.call("POST", "/v1/recommendations", {}, key="app").status_code for _ in range(12)]
        # One more made the token; what the token did does not count for the key.
        assert codes == [200] * 11 + [429]
        assert service.call("POST", "/v1/recommendations", {}, key="admin").status_code == 200
        assert "babelrec_service_rate_limited_total" in service.call("GET", "/metrics", key=None).text
