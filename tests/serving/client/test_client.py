"""Both clients against the live server, over gRPC and REST."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving.client import (
    BadRequestError,
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    Query,
    RecommenderClient,
    ServingError,
    UnreachableError,
)
from tests.serving.client.conftest import Live
from tests.serving.client.servers import Use, blocking, both, free_port, in_a_loop
from tests.serving.live import LiveServer
from tests.serving.models import ECHO_DTYPES, ITEMS

Call = Callable[[Any], Any]
Ask = Callable[[Call], Any]


@pytest.fixture(params=["grpc", "rest"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[blocking, in_a_loop])
def use(request: pytest.FixtureRequest) -> Use:
    chosen: Use = request.param
    return chosen


@pytest.fixture
def ask(live: Live, transport: str, use: Use) -> Ask:
    """Calls a method of a client: of either kind, over either protocol."""
    return lambda call: use(call, getattr(live, transport), "recommender", timeout=30)


def ids(items: Any) -> list[str]:
    return [item.item_id for item in items]


def test_recommend(ask: Ask) -> None:
    items = ask(lambda client: client.recommend(Query(user_id="42", language="zh", k=3)))
    assert [(item.item_id, item.title, item.language) for item in items] == [
        ("2", "流浪地球", "zh"),
        ("1", "Toy Story", "en"),
        ("3", "باب الحديد", "ar"),
    ]
    assert items[0].score == np.float32(0.8) + np.float32(0.25)
    assert items[0].heads == pytest.approx({"probability_like": 1 / (1 + np.exp(-1.05)), "predicted_rating": 0.525})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(history=["1", "2"], k=2), ["3", "4"]),
        (Query(history=["1", "2"], include_seen=True, k=2), ["1", "2"]),
        (Query(exclude=["1", "item-日本-🎬"], categories=["animation"]), []),
        (Query(languages=["ja", "th"]), ["4", "item-日本-🎬"]),
        (Query(query="Солярис", k=1), ["8"]),
    ],
)
def test_filters_and_history(ask: Ask, query: Query, expected: list[str]) -> None:
    assert ids(ask(lambda client: client.recommend(query))) == expected


def test_padding_is_gone(ask: Ask) -> None:
    assert len(ask(lambda client: client.recommend(Query(k=1000)))) == len(ITEMS)


def test_batch_of_different_queries(ask: Ask) -> None:
    queries = [
        Query(k=1),
        Query(k=5, history=["1"], languages=["en", "es"]),
        Query(k=2, language="ko", timestamp=datetime(2026, 1, 1, tzinfo=UTC), exclude=["1", "2"]),
        Query(categories=["no such category"]),
    ]
    rows = ask(lambda client: client.recommend_batch(queries))
    assert [ids(row) for row in rows] == [["1"], ["7"], ["5", "3"], []]

    def one(query: Query) -> Any:
        return ask(lambda client: client.recommend(query))

    for row, alone in zip(rows, map(one, queries), strict=True):  # one by one gives the same
        assert [(a.item_id, a.title, a.score) for a in row] == [(a.item_id, a.title, a.score) for a in alone]
        assert [item.heads for item in row] == [pytest.approx(item.heads) for item in alone]
    assert ask(lambda client: client.recommend_batch([])) == []


def test_retrieve_has_no_titles_and_heads(ask: Ask) -> None:
    ((item,),) = ask(lambda client: client.retrieve_batch([Query(k=1)]))
    assert (item.item_id, item.language, item.title, dict(item.heads)) == ("1", "en", "", {})


def test_rank(ask: Ask) -> None:
    items = ask(lambda client: client.rank(Query(language="ru"), ["8", "unknown", "1"]))
    assert ids(items) == ["8", "unknown", "1"]
    assert items[0].score == np.float32(np.float32(0.2) + np.float32(0.25))
    assert set(items[0].heads) == {"probability_like"}
    assert (items[1].score, dict(items[1].heads)) == (None, {})
    assert ask(lambda client: client.rank(Query(), [])) == []
    short, long = ask(lambda client: client.rank_batch([Query(), Query()], [["1"], ["1", "2", "3"]]))
    assert (len(short), len(long)) == (1, 3)
    with pytest.raises(BadRequestError, match="1 queries but 2 lists"):
        ask(lambda client: client.rank_batch([Query()], [["1"], ["2"]]))


def test_encode(ask: Ask) -> None:
    texts = ["科幻电影", "أفلام", "หนัง", "공상과학", "🎬", "", "x" * 100_000]
    vectors = ask(lambda client: client.encode(texts))
    assert (vectors.shape, vectors.dtype) == ((len(texts), 512), np.float32)
    np.testing.assert_array_equal(vectors[:1], ask(lambda client: client.encode(texts[:1])))
    assert ask(lambda client: client.encode([])).shape == (0, 512)


def test_status_metadata_and_health(ask: Ask) -> None:
    (status,) = ask(lambda client: client.status())
    assert (status.version, status.state, status.error_code) == (1, "AVAILABLE", "OK")
    metadata = ask(lambda client: client.metadata())
    assert (metadata.name, metadata.version) == ("recommender", 1)
    assert {"serving_default", "retrieve", "rank", "encode_text"} <= set(metadata.signatures)
    assert not any(name.startswith("__") for name in metadata.signatures)
    inputs = metadata.signatures["serving_default"].inputs
    assert (inputs["history"].dtype, inputs["history"].shape) == ("string", (-1, -1))
    assert inputs["k"].dtype == "int32"
    assert ask(lambda client: client.health()) == "SERVING"


def test_every_type_comes_back(ask: Ask, transport: str) -> None:
    sent: dict[str, Any] = {}
    for dtype in ECHO_DTYPES:
        if dtype == "string":
            sent[dtype] = np.array([["a", b"\xff\x00"], ["😀", ""]], dtype=object)
        elif dtype == "bfloat16":
            from ml_dtypes import bfloat16

            sent[dtype] = np.array([0.5, -3.0], bfloat16)
        elif not dtype.startswith("complex"):
            sent[dtype] = np.array([[1, 0]], dtype)
        elif transport == "grpc":
            sent[dtype] = np.array([1 - 2j], dtype)
    sent["float32"] = np.array([0.1, np.nan, -np.inf, 3e38], np.float32)
    sent["int64"] = np.array([-(2**63), 2**63 - 1])
    if transport == "rest":
        # The signature has complex inputs, which JSON can't represent: only the refusal can be tested.
        with pytest.raises(BadRequestError, match="complex"):
            ask(lambda client: client.predict("echo", sent))
        return
    outputs = ask(lambda client: client.predict("echo", sent))
    for dtype, array in sent.items():
        assert outputs[dtype].dtype == array.dtype
        assert outputs[dtype].shape == array.shape
    np.testing.assert_array_equal(outputs["float32"], sent["float32"])
    assert outputs["string"].tolist() == [[b"a", b"\xff\x00"], ["😀".encode(), b""]]


def test_output_filter(ask: Ask) -> None:
    inputs = {"item_ids": np.array([["1"]], dtype=object), "history": np.empty((1, 0), dtype=object)}
    inputs |= {name: np.array([""], dtype=object) for name in ("user_id", "query", "language", "country")}
    inputs["timestamp"] = np.array([0])
    assert list(ask(lambda client: client.predict("rank", inputs, ["scores"]))) == ["scores"]
    with pytest.raises(BadRequestError, match="none"):
        ask(lambda client: client.predict("rank", inputs, ["none"]))


def test_errors(ask: Ask) -> None:
    with pytest.raises(BadRequestError, match=r"named input|input size does not match signature"):
        ask(lambda client: client.predict("rank", {}))
    with pytest.raises(BadRequestError, match=r'signature.*"none"'):
        ask(lambda client: client.predict("none", {}))
    with pytest.raises(BadRequestError, match="timeout"):
        ask(lambda client: client.encode(["a"], timeout=-1))
    with pytest.raises(DeadlineExceededError, match=r"within 0\.3 s"):
        ask(lambda client: client.predict("slow", {"seconds": np.array([1.0])}, timeout=0.3))


def test_a_model_or_version_that_is_not_served(live: Live, transport: str, use: Use) -> None:
    target = getattr(live, transport)
    for options, message in (({"model_name": "other"}, r"Latest\(other\).*--model_name"), ({"version": 7}, "Specific")):
        arguments: dict[str, Any] = {"model_name": "recommender", **options}
        with pytest.raises(ModelNotFoundError, match=message):
            use(lambda client: client.recommend(Query()), target, **arguments)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_compressed_requests_are_understood(live: Live, transport: str, compression: str | None) -> None:
    texts = ["x" * 1000] * 50
    with RecommenderClient(getattr(live, transport), compression=compression, timeout=30) as client:
        assert client.encode(texts).shape == (50, 512)


def test_a_pinned_version_and_its_metadata(live: Live, transport: str) -> None:
    with RecommenderClient(getattr(live, transport), version=1, timeout=30) as client:
        assert ids(client.recommend(Query(k=1))) == ["1"]
        assert [version.version for version in client.status()] == [1]


def test_many_at_once(live: Live, transport: str) -> None:
    query, target = Query(language="zh", k=5), getattr(live, transport)

    async def together(client: Any) -> list[Any]:
        return await asyncio.gather(*(client.recommend(query) for _ in range(50)))

    with RecommenderClient(target, timeout=60) as client:
        expected = client.recommend(query)
        with ThreadPoolExecutor(16) as pool:
            assert all(items == expected for items in pool.map(lambda _: client.recommend(query), range(200)))
    assert all(items == expected for items in in_a_loop(together, target, "recommender", timeout=60))


@both
def test_unix_socket(live: Live, use: Use) -> None:
    def ask(target: str) -> Any:
        return use(lambda client: client.recommend(Query(k=3)), target, "recommender", timeout=30)

    assert ask(live.unix) == ask(live.grpc)


def test_closing_leaves_a_given_channel_open(live: Live) -> None:
    channel = live.server.channel
    with RecommenderClient(channel=channel) as borrowed:
        assert borrowed.recommend(Query(k=1))
    ready = threading.Event()
    channel.subscribe(lambda state: ready.set() if state is grpc.ChannelConnectivity.READY else None)
    assert ready.wait(10)
    assert live.server.states() == {1: "AVAILABLE"}


@both
def test_fallback_to_the_live_rest_api(live: Live, use: Use) -> None:
    target = f"localhost:{free_port()}"
    options: dict[str, Any] = {"model_name": "recommender", "fallback": live.rest, "timeout": 30}
    assert ids(use(lambda client: client.recommend(Query(k=2)), target, **options)) == ["1", "2"]
    assert use(lambda client: client.metadata(), target, **options).version == 1


def test_swapped_ports_are_recognised(live: Live) -> None:
    with pytest.raises(UnreachableError, match="write http://host:port"):
        RecommenderClient(live.rest.removeprefix("http://"), retry=None).recommend(Query())
    with pytest.raises(UnreachableError, match="write host:port"):
        RecommenderClient(f"http://{live.grpc}", retry=None).recommend(Query())


class Slow(tf.Module):
    """Busy for some milliseconds per request."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        end = tf.timestamp() + 0.2
        now = tf.while_loop(lambda now: now < end, lambda _: tf.timestamp(), [tf.timestamp()])[0]
        return {"y": x + tf.minimum(now, 0.0)}


def test_a_full_queue_is_overload(tmp_path: Path) -> None:
    model = Slow()
    tf.saved_model.save(model, str(tmp_path / "models" / "1"), signatures=model.__call__)
    parameters = tmp_path / "batching.config"
    parameters.write_text(
        "max_batch_size { value: 1 } batch_timeout_micros { value: 0 } "
        "max_enqueued_batches { value: 1 } num_batch_threads { value: 1 }"
    )
    rest = free_port()
    flags = ("--enable_batching", f"--batching_parameters_file={parameters}", f"--rest_api_port={rest}")

    def one(client: RecommenderClient) -> str:
        try:
            client.predict("serving_default", {"x": np.array([0.5])})
        except ServingError as error:
            return type(error).__name__
        return "OK"

    with LiveServer(tmp_path / "models", *flags) as server, ThreadPoolExecutor(12) as pool:
        for target in (server.address, f"http://localhost:{rest}"):
            with RecommenderClient(target, timeout=60, retry=None) as client:
                assert one(client) == "OK"
                results = set(pool.map(one, [client] * 12))
            assert results == {"OK", OverloadedError.__name__}
