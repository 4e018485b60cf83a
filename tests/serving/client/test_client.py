"""The typed client and its command line against the live server."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import numpy as np
import pytest

from serving import contract
from serving.client import (
    BadRequestError,
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    Query,
    RecommenderClient,
    ServerFaultError,
    ServingError,
    UnreachableError,
)
from serving.client.cli import main
from serving.client.errors import from_status
from serving.client.types import inputs_of
from tests.serving.live import ROOT, LiveServer
from tests.serving.models import ITEMS


def test_recommend(client: RecommenderClient) -> None:
    items = client.recommend(Query(user_id="42", language="zh", k=3))
    assert [item.item_id for item in items] == ["2", "1", "3"]
    best = items[0]
    assert (best.title, best.language) == ("流浪地球", "zh")
    assert best.score == pytest.approx(0.8 + 0.25)
    assert best.heads == pytest.approx({"probability_like": 1 / (1 + np.exp(-1.05)), "predicted_rating": 0.525})


def test_filters_and_history(client: RecommenderClient) -> None:
    def ids(**query: object) -> list[str]:
        return [item.item_id for item in client.recommend(Query(**query))]  # type: ignore[arg-type]

    assert ids(history=["1", "2"], k=2) == ["3", "4"]
    assert ids(history=["1", "2"], include_seen=True, k=2) == ["1", "2"]
    assert ids(exclude=["1", "item-日本-🎬"], categories=["animation"]) == []
    assert ids(languages=["ja", "th"]) == ["4", "item-日本-🎬"]
    assert ids(query="Солярис", k=1) == ["8"]
    assert len(ids(k=1000)) == len(ITEMS)  # padding is gone


def test_batch_of_different_queries(client: RecommenderClient) -> None:
    queries = [
        Query(k=1),
        Query(k=5, history=["1"], languages=["en", "es"]),
        Query(k=2, language="ko", timestamp=datetime(2026, 1, 1, tzinfo=UTC), exclude=["1", "2"]),
        Query(categories=["no such category"]),
    ]
    rows = client.recommend_batch(queries)
    assert [[item.item_id for item in row] for row in rows] == [["1"], ["7"], ["5", "3"], []]
    for row, query in zip(rows, queries, strict=True):  # one by one gives the same
        for item, alone in zip(row, client.recommend_batch([query])[0], strict=True):
            assert (item.item_id, item.title, item.score) == (alone.item_id, alone.title, alone.score)
            assert item.heads == pytest.approx(alone.heads)
    assert client.recommend_batch([]) == []


def test_retrieve_has_no_titles_and_heads(client: RecommenderClient) -> None:
    ((item,),) = client.retrieve_batch([Query(k=1)])
    assert (item.item_id, item.language, item.title, dict(item.heads)) == ("1", "en", "", {})


def test_rank(client: RecommenderClient) -> None:
    items = client.rank(Query(language="ru"), ["8", "unknown", "1"])
    assert [item.item_id for item in items] == ["8", "unknown", "1"]
    assert items[0].score == pytest.approx(0.45)
    assert set(items[0].heads) == {"probability_like"}
    assert (items[1].score, dict(items[1].heads)) == (None, {})
    assert client.rank(Query(), []) == []
    short, long = client.rank_batch([Query(), Query()], [["1"], ["1", "2", "3"]])
    assert (len(short), len(long)) == (1, 3)
    with pytest.raises(BadRequestError, match="1 queries but 2 lists"):
        client.rank_batch([Query()], [["1"], ["2"]])


def test_encode(client: RecommenderClient) -> None:
    texts = ["科幻电影", "أفلام", "หนัง", "공상과학", "🎬", "", "x" * 100_000]
    vectors = client.encode(texts)
    assert vectors.shape == (len(texts), 512)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[:1], client.encode(texts[:1]))
    assert client.encode([]).shape == (0, 512)


def test_status_and_metadata(client: RecommenderClient) -> None:
    (status,) = client.status()
    assert (status.version, status.state, status.error_code) == (1, "AVAILABLE", "OK")
    metadata = client.metadata()
    assert (metadata.name, metadata.version) == ("recommender", 1)
    assert {"serving_default", "retrieve", "rank", "encode_text"} <= set(metadata.signatures)
    assert not any(name.startswith("__") for name in metadata.signatures)
    inputs = metadata.signatures["serving_default"].inputs
    assert (inputs["history"].dtype, inputs["history"].shape) == ("string", (-1, -1))
    assert inputs["k"].dtype == "int32"


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


def test_errors_from_the_server(server: LiveServer, client: RecommenderClient) -> None:
    with (
        RecommenderClient(server.address, "other") as other,
        pytest.raises(ModelNotFoundError, match=r"Latest\(other\).*--model_name"),
    ):
        other.recommend(Query())
    with (
        RecommenderClient(server.address, version=5) as fifth,
        pytest.raises(ModelNotFoundError, match="Specific"),
    ):
        fifth.recommend(Query())
    with pytest.raises(BadRequestError, match=r"input size does not match signature"):
        client.predict("rank", {})
    with pytest.raises(BadRequestError, match='signature key "nothing" not found'):
        client.predict("nothing", {})
    with pytest.raises(DeadlineExceededError, match=r"within 0\.3 s"):
        client.predict("slow", {"seconds": np.array([1.0])}, timeout=0.3)


def test_unreachable_server() -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        target = f"localhost:{free.getsockname()[1]}"
    with (
        RecommenderClient(target, timeout=5) as unreachable,
        pytest.raises(UnreachableError, match=r"no model server responds at .* Start one with"),
    ):
        unreachable.recommend(Query())


def test_every_status_has_its_error() -> None:
    kinds = {
        grpc.StatusCode.UNAVAILABLE: UnreachableError,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
        grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
        grpc.StatusCode.INVALID_ARGUMENT: BadRequestError,
        grpc.StatusCode.FAILED_PRECONDITION: BadRequestError,
        grpc.StatusCode.UNIMPLEMENTED: BadRequestError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
        grpc.StatusCode.INTERNAL: ServerFaultError,
        grpc.StatusCode.UNKNOWN: ServerFaultError,
    }
    for code, kind in kinds.items():
        error = from_status(code, "why", "host:1", "m", 1.0)
        assert type(error) is kind
        assert isinstance(error, ServingError)
        assert error.code is code
        assert "host:1" in str(error)


def test_unix_socket(server: LiveServer, client: RecommenderClient) -> None:
    with RecommenderClient(f"unix:{server.base_path / 'socket'}") as local:
        assert local.recommend(Query(k=3)) == client.recommend(Query(k=3))


def test_one_client_in_many_threads(client: RecommenderClient) -> None:
    expected = client.recommend(Query(language="zh"))
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: client.recommend(Query(language="zh")), range(200)))
    assert all(result == expected for result in results)


def run(*arguments: str, server: LiveServer | None = None) -> subprocess.CompletedProcess[str]:
    address = [] if server is None else ["--address", server.address]
    command, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "serving.client", command, *address, *rest],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


def test_cli_recommend_table(server: LiveServer) -> None:
    done = run("recommend", "--user", "42", "--language", "zh", "--k", "8", server=server)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    first = next(line for line in lines if line[:1] == ["1"])
    assert first[:5] == ["1", "流浪地球", "zh", "2", "1.0500"]
    assert "p(like)" in done.stdout
    assert "predicted rating" in done.stdout
    assert "[2006]" in done.stdout  # brackets are not markup
    assert "item-日本-🎬" in done.stdout


def test_cli_columns_are_aligned_for_wide_characters(server: LiveServer) -> None:
    from wcwidth import wcswidth

    done = run("recommend", "--k", "8", server=server)
    rows = [line for line in done.stdout.splitlines() if line.strip() and line.split()[0].isdigit()]
    assert len(rows) == 8
    scores = [f"{item[4]:.4f}" for item in ITEMS]
    ends = {wcswidth(row[: row.index(score) + len(score)]) for row, score in zip(rows, scores, strict=True)}
    assert len(ends) == 1


def test_cli_json(server: LiveServer) -> None:
    done = run(
        "recommend", "--json", "--history", "1,2", "--history", "3", "--exclude", "4", "--languages", "ko,ru,th",
        "--k", "5", server=server,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)
    assert [item["item_id"] for item in items] == ["5", "8"]
    assert items[0]["title"] == "기생충"
    assert "기생충" in done.stdout
    assert set(items[0]["heads"]) == {"probability_like", "predicted_rating"}


def test_cli_other_commands(server: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--address", server.address]

    def output_of(*arguments: str) -> str:
        assert main([arguments[0], *at, *arguments[1:]]) == 0
        return capsys.readouterr().out

    assert json.loads(output_of("rank", "--items", "8,nope,1", "--json")) == [
        {
            "item_id": "1",
            "score": pytest.approx(0.9),
            "heads": {"probability_like": pytest.approx(0.7109495)},
        },
        {"item_id": "8", "score": pytest.approx(0.2), "heads": {"probability_like": pytest.approx(0.549834)}},
        {"item_id": "nope", "score": None, "heads": {}},
    ]
    assert "unknown item" in output_of("rank", "--items", "8", "--items", "nope")
    assert "first 5 of 512" in output_of("encode", "科幻电影", "science fiction")
    assert len(json.loads(output_of("encode", "--json", "a"))[0]["embedding"]) == 512
    assert json.loads(output_of("status", "--json"))[0]["state"] == "AVAILABLE"
    assert "AVAILABLE" in output_of("status")
    assert "no items" in output_of("recommend", "--categories", "none")


def test_cli_errors_are_one_line(server: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    def failed(*arguments: str) -> tuple[int, str]:
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = int(str(stop.code))
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        return status, captured.err

    address = ("--address", server.address)
    assert failed("recommend", *address, "--model", "other")[0] == 5
    assert failed("recommend", *address, "--k", "0")[0] == 2
    assert failed("recommend", "--address", "localhost:1", "--timeout", "5")[0] == 3
    with socket.create_server(("localhost", 0)) as mute:  # accepts and never sends anything
        silent = f"localhost:{mute.getsockname()[1]}"
        assert failed("recommend", "--address", silent, "--timeout", "0.3")[0] == 4
    status, error = failed("recommend", "--k", "many")
    assert status == 2
    assert "--k" in error
    assert failed("recommend", "--languges", "de")[0] == 2
    assert failed()[0] == 2
    assert failed("rank")[0] == 2


def test_cli_copes_with_a_narrow_encoding(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["recommend", "--address", server.address, "--k", "2"]) == 0
    out.flush()
    assert b"Toy Story" in out.buffer.getvalue()


def test_cli_survives_a_closed_pipe(server: LiveServer) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.client", "recommend", "--address", server.address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(30) == 0


def test_closing_leaves_a_given_channel_open(server: LiveServer) -> None:
    with RecommenderClient(channel=server.channel) as borrowed:
        assert borrowed.recommend(Query(k=1))
    ready = threading.Event()
    server.channel.subscribe(lambda state: ready.set() if state is grpc.ChannelConnectivity.READY else None)
    assert ready.wait(10)
    assert server.states() == {1: "AVAILABLE"}
