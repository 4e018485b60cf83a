"""Queries as tensors: padding, types, and values that are refused before anything is sent."""

from datetime import UTC, datetime

import pytest

from serving import contract
from serving.client import BadRequestError, Query, RecommenderClient
from serving.client.types import inputs_of


def test_history_is_padded_in_front_and_other_lists_behind() -> None:
    queries = [Query(history=["1", "2", "3"], exclude=["1"]), Query(history=["9"], exclude=["2", "3"]), Query()]
    inputs = inputs_of(contract.RECOMMEND, queries)
    assert inputs["history"].tolist() == [[b"1", b"2", b"3"], [b"", b"", b"9"], [b"", b"", b""]]
    assert inputs["exclude"].tolist() == [[b"1", b""], [b"2", b"3"], [b"", b""]]
    assert inputs["languages"].shape == (3, 0)
    assert inputs["k"].dtype.name == "int32"
    assert inputs["timestamp"].dtype.name == "int64"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"user_id": 42}, "user_id must be str, got int 42"),
        ({"history": "1"}, "history must be a sequence of str, got str"),
        ({"history": [1]}, "history must be str, got int 1"),
        ({"exclude": None}, "exclude must be a sequence of str"),
        ({"k": 0}, "k must be between 1 and"),
        ({"k": 2**31}, "k must be between 1 and"),
        ({"k": "5"}, "k must be int, got str"),
        ({"k": True}, "k must be int, got bool"),
        ({"timestamp": 1.5}, "timestamp must be int, got float"),
        ({"timestamp": datetime(2026, 1, 1)}, "no time zone"),
        ({"query": "\ud800"}, "not valid Unicode"),
    ],
)
def test_bad_values_are_named_before_anything_is_sent(query: dict[str, object], message: str) -> None:
    with RecommenderClient("localhost:1") as unconnected, pytest.raises(BadRequestError, match=message):
        unconnected.recommend(Query(**query))  # type: ignore[arg-type]


def test_times_are_unix_seconds() -> None:
    queries = [Query(timestamp=datetime(2026, 1, 1, tzinfo=UTC)), Query(timestamp=-1), Query()]
    assert inputs_of(contract.RECOMMEND, queries)["timestamp"].tolist() == [1_767_225_600, -1, 0]


@pytest.mark.parametrize("query", ["42", None, {"user_id": "42"}])
def test_a_query_is_a_query(query: object) -> None:
    with RecommenderClient("localhost:1") as unconnected, pytest.raises(BadRequestError, match=r"Query\(user_id"):
        unconnected.recommend(query)  # type: ignore[arg-type]
