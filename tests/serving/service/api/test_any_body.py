"""Whatever is sent, the answer is never 500, and an error is a problem document."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.service.api.inside import Inside, problem
from tests.serving.service.databases import BOTH

pytestmark = BOTH

_SAMPLES = [
    "",
    "大輔",
    "عائشة",
    "สมชาย",
    "대한",
    "👩‍👩‍👧‍👦",
    "e\u0301",
    "\u202e",
    "a\u0000",
    "\n",
    "x" * 300,
    "\ufeff",
    "\U0010ffff",
    "session:1",
]
_TEXTS = st.sampled_from(_SAMPLES) | st.text(max_size=20)
_NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, 1e308])
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
_FIELDS = {
    "/v1/recommendations": ["user_id", "session_id", "query", "language", "country", "k", "languages", "seen",
                            "exclude", "categories", "include_seen", "placement", "timestamp", "diversity"],
    "/v1/search": ["query", "k", "user_id"],
    "/v1/similar": ["item_id", "k", "exclude"],
    "/v1/rank": ["item_ids", "query", "user_id"],
    "/v1/events": ["event_id", "event", "timestamp", "user_id", "session_id", "item_id", "value", "position",
                   "recommendation_id", "propensity", "language", "country", "placement", "query", "context"],
    "/v1/ubi/events": ["action_name", "timestamp", "application", "query_id", "session_id", "client_id", "user_id",
                       "message", "message_type", "event_attributes"],
    "/v1/ubi/queries": ["user_query", "query_id", "session_id", "client_id", "user_id", "timestamp", "application",
                        "query_attributes", "query_response_id", "query_response_hit_ids"],
    "/v1/tokens": ["user_id", "session_id", "ttl"],
    "/v1/sessions/s/user": ["user_id"],
    "/v1/items/1": ["language", "title", "description", "categories", "numbers", "embeddings", "attributes",
                    "available", "valid_from", "valid_until"],
    "/v1/items": ["items", "item_ids"],
    "/v1/rollouts": ["stable", "canary", "report"],
    "/v1/rollouts/1/promote": ["reason"],
    "/v1/rollouts/1/rollback": ["reason"],
    "/v1/users/u": ["languages", "country", "attributes"],
}  # fmt: skip
_METHODS = {"/v1/items/1": ["PUT", "PATCH"], "/v1/items": ["PUT", "DELETE"], "/v1/users/u": ["PUT"]}
_ADDRESSES = [(method, path) for path in _FIELDS for method in _METHODS.get(path, ["POST"])]
_SCALARS: dict[str, st.SearchStrategy[Any]] = {"event_id": _TEXTS, "event": _TEXTS, "session_id": _TEXTS}


def _check(response: httpx.Response) -> None:
    assert response.status_code != 500, response.text
    if response.status_code >= 400:
        problem(response, response.status_code)
    else:
        response.json()


@pytest.mark.parametrize(("method", "path"), _ADDRESSES)
@settings(max_examples=25)
@given(data=st.data())
def test_fields_of_any_kind(shared: Inside, method: str, path: str, data: st.DataObject) -> None:
    fields = _FIELDS[path]
    body = data.draw(st.dictionaries(st.sampled_from(fields), _VALUES, max_size=len(fields)) | _VALUES)
    for name, kind in _SCALARS.items():
        if isinstance(body, dict) and name in body:
            body[name] = data.draw(kind)
    if path in ("/v1/events", "/v1/ubi/events", "/v1/ubi/queries"):
        body = data.draw(st.sampled_from([[body], {"events": [body]}, [body, body], {"events": body}]))
    # Python's JSON has NaN, Infinity and lone surrogates, which a client might send as well.
    _check(
        shared.call(
            method, path, json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
        )
    )


@pytest.mark.parametrize(("method", "path"), [*_ADDRESSES, ("PUT", "/v1/rules")])
@settings(max_examples=10)
@given(body=st.binary(max_size=60) | _TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bytes_of_any_kind(shared: Inside, method: str, path: str, body: bytes) -> None:
    _check(shared.call(method, path, body))


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST"])
@settings(max_examples=20)
@given(path=st.text("/%.aF09é急?#", max_size=20))
def test_paths_of_any_kind(shared: Inside, method: str, path: str) -> None:
    try:
        url = httpx.URL(f"http://service/v1/{path}")
    except httpx.InvalidURL:
        return
    response = shared.call(method, str(url), "{}" if method != "GET" else None)
    assert response.status_code != 500
