"""Recommendations, similar items, ranking and search."""

import dataclasses

import pytest

from serving.service.api.bodies.recommending import RankForm, RecommendationForm
from serving.service.errors import ForbiddenError, InvalidRequestError, UnavailableError, UnknownError
from serving.service.recommendation import RecommendationRequest
from tests.serving.service.api.inside import Inside, problem

_FULL = {
    "user_id": "大輔",
    "session_id": "زيارة-17",
    "query": "가벼운 등산 배낭 🏔️",
    "language": "th",
    "country": "TH",
    "k": 3,
    "languages": ["th", "pt-BR"],
    "categories": ["เครื่องครัว"],
    "exclude": ["9"],
    "seen": ["1", "2"],
    "include_seen": True,
    "placement": "home",
    "timestamp": 1796000000,
    "diversity": 0.5,
}


def test_every_field_reaches_the_recommender(service: Inside) -> None:
    response = service.call("POST", "/v1/recommendations", _FULL, key="app")
    assert response.status_code == 200
    assert service.recommender.asked == [RecommendationRequest(**_FULL)]  # type: ignore[arg-type]
    answer = response.json()
    assert answer["recommendation_id"] == "r-1"
    assert [item["item_id"] for item in answer["items"]] == ["0", "1", "2"]
    assert answer["items"][0]["title"] == "急須"


def test_the_form_has_the_fields_of_the_request() -> None:
    wanted = {each.name: each.default for each in dataclasses.fields(RecommendationRequest)}
    given = {name: each.default for name, each in RecommendationForm.model_fields.items()}
    assert set(wanted) == set(given) == set(RankForm.model_fields) - {"item_ids"}
    for name, default in wanted.items():
        assert given[name] == (list(default) if isinstance(default, tuple) else default), name


def test_an_empty_body_asks_for_anybody(service: Inside) -> None:
    assert service.call("POST", "/v1/recommendations", {}).status_code == 200
    empty: dict[str, list[str]] = {"languages": [], "categories": [], "exclude": [], "seen": []}
    assert service.recommender.asked == [RecommendationRequest(**empty)]  # type: ignore[arg-type]


def test_search_needs_a_query(service: Inside) -> None:
    assert "body.query" in problem(service.call("POST", "/v1/search", {}), 422)
    assert service.call("POST", "/v1/search", {"query": "حقيبة"}).status_code == 200
    assert service.recommender.asked[0].query == "حقيبة"


def test_similar_and_rank(service: Inside) -> None:
    assert service.call("POST", "/v1/similar", {"item_id": "急須/1", "k": 2}).json()["items"][1]["item_id"] == "1"
    assert service.recommender.similar_to == ["急須/1"]
    ranked = service.call("POST", "/v1/rank", {"item_ids": ["5", "unknown"], "user_id": "u"}).json()
    assert [(each["item_id"], each["score"]) for each in ranked] == [("5", 0.5), ("unknown", None)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("k", 0),
        ("k", 1001),
        ("k", "10"),
        ("k", True),
        ("user_id", "e\u0301"),
        ("user_id", "a\u0000b"),
        ("user_id", "a\nb"),
        ("user_id", "語" * 86),
        ("user_id", 5),
        ("user_id", None),
        ("country", "jp"),
        ("language", "ja\n"),
        ("diversity", 2),
        ("timestamp", -1),
        ("exclude", ["x"] * 10_001),
        ("exclude", [""]),
        ("userid", "u"),
    ],
)
def test_malformed_fields_are_named(service: Inside, field: str, value: object) -> None:
    detail = problem(service.call("POST", "/v1/recommendations", {field: value}), 422)
    assert f"body.{field}" in detail
    assert not service.recommender.asked


def test_ids_may_have_256_bytes(service: Inside) -> None:
    assert service.call("POST", "/v1/recommendations", {"user_id": "語" * 85 + "a"}).status_code == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequestError("x. Remedy: y."), 422),
        (UnknownError("x"), 404),
        (ForbiddenError("x"), 403),
        (UnavailableError("x"), 503),
        (RuntimeError("secret"), 500),
    ],
)
def test_errors_of_the_recommender(service: Inside, error: Exception, status: int) -> None:
    service.recommender.error = error
    response = service.call("POST", "/v1/recommendations", {})
    detail = problem(response, status)
    assert "secret" not in detail
    assert ("retry-after" in response.headers) == (status == 503)


def test_degraded_answers_are_counted(service: Inside) -> None:
    service.recommender.degraded = True
    assert service.call("POST", "/v1/recommendations", {}).json()["degraded"] is True
    assert "babelrec_service_degraded_answers_total 1.0" in service.call("GET", "/metrics").text
