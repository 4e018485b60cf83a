"""Both clients and the command line against the live server, over gRPC and REST."""

import asyncio
import json
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.client import (
    AsyncRecommenderClient,
    BadRequestError,
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    Query,
    RecommenderClient,
    ServingError,
    UnreachableError,
)
from serving.client.cli import main
from tests.serving.live import ROOT, LiveServer
from tests.serving.models import ECHO_DTYPES, copy_version

Call = Callable[[Any], Any]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


class Live:
    """A server and both its addresses."""

    def __init__(self, server: LiveServer, rest_port: int) -> None:
        self.server = server
        self.grpc = server.address
        self.rest = f"http://localhost:{rest_port}"


@pytest.fixture(scope="module")
def live(exports: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    base_path = tmp_path_factory.mktemp("models")
    copy_version(exports[1], base_path / "1")
    port = free_port()
    flags = (f"--rest_api_port={port}", "--enable_grpc_healthcheck_service")
    with LiveServer(base_path, *flags) as server:
        server.wait_for_state(1, "AVAILABLE")
        yield Live(server, port)


@pytest.fixture(scope="module")
def ask(live: Live) -> Iterator[Callable[[str, Call], Any]]:
    """Calls a method by transport and kind of client."""
    with RecommenderClient(live.grpc, timeout=30) as by_grpc, RecommenderClient(live.rest, timeout=30) as by_rest:

        def run(how: str, call: Call) -> Any:
            transport, kind = how.split()
            if kind == "sync":
                return call(by_grpc if transport == "grpc" else by_rest)

            async def go() -> Any:
                target = live.grpc if transport == "grpc" else live.rest
                async with AsyncRecommenderClient(target, timeout=30) as client:
                    return await call(client)

            return asyncio.run(go())

        yield run


every = pytest.mark.parametrize("how", ["grpc sync", "grpc async", "rest sync", "rest async"])


@every
def test_the_typed_calls(ask: Callable[[str, Call], Any], how: str) -> None:
    items = ask(how, lambda client: client.recommend(Query(user_id="42", language="zh", k=3)))
    assert [(item.item_id, item.title, item.language) for item in items] == [
        ("2", "流浪地球", "zh"),
        ("1", "Toy Story", "en"),
        ("3", "باب الحديد", "ar"),
    ]
    assert items[0].score == np.float32(0.8) + np.float32(0.25)
    assert items[0].heads == pytest.approx({"probability_like": 1 / (1 + np.exp(-1.05)), "predicted_rating": 0.525})
    queries = [Query(k=1), Query(k=3, history=["1"], languages=["en", "es"]), Query(categories=["none"])]
    rows = ask(how, lambda client: client.recommend_batch(queries))
    assert [[item.item_id for item in row] for row in rows] == [["1"], ["7"], []]
    assert ask(how, lambda client: client.recommend_batch([])) == []
    ((item,),) = ask(how, lambda client: client.retrieve_batch([Query(k=1)]))
    assert (item.item_id, item.title, dict(item.heads)) == ("1", "", {})
    ranked = ask(how, lambda client: client.rank(Query(language="ru"), ["8", "unknown"]))
    assert [(item.item_id, item.score is None) for item in ranked] == [("8", False), ("unknown", True)]
    assert ranked[0].score == np.float32(np.float32(0.2) + np.float32(0.25))
    vectors = ask(how, lambda client: client.encode(["科幻", "🎬", ""]))
    assert (vectors.shape, vectors.dtype) == ((3, 512), np.float32)
    assert ask(how, lambda client: client.encode([])).shape == (0, 512)
    assert [(v.version, v.state) for v in ask(how, lambda client: client.status())] == [(1, "AVAILABLE")]
    found = ask(how, lambda client: client.metadata())
    assert (found.name, found.version) == ("recommender", 1)
    assert found.signatures["serving_default"].inputs["history"].shape == (-1, -1)
    assert found.signatures["serving_default"].inputs["k"].dtype == "int32"
    assert ask(how, lambda client: client.health()) == "SERVING"


@every
def test_every_type_comes_back(ask: Callable[[str, Call], Any], how: str) -> None:
    by_rest = how.startswith("rest")
    sent: dict[str, Any] = {}
    for dtype in ECHO_DTYPES:
        if dtype == "string":
            sent[dtype] = np.array([["a", b"\xff\x00"], ["😀", ""]], dtype=object)
        elif dtype == "bfloat16":
            from ml_dtypes import bfloat16

            sent[dtype] = np.array([0.5, -3.0], bfloat16)
        elif not dtype.startswith("complex"):
            sent[dtype] = np.array([[1, 0]], dtype)
        elif not by_rest:
            sent[dtype] = np.array([1 - 2j], dtype)
    sent["float32"] = np.array([0.1, np.nan, -np.inf, 3e38], np.float32)
    sent["int64"] = np.array([-(2**63), 2**63 - 1])
    if by_rest:
        # The signature has complex inputs, which JSON can't represent: only the refusal can be tested.
        with pytest.raises(BadRequestError, match="complex"):
            ask(how, lambda client: client.predict("echo", sent))
        return
    outputs = ask(how, lambda client: client.predict("echo", sent))
    for dtype, array in sent.items():
        assert outputs[dtype].dtype == array.dtype
        assert outputs[dtype].shape == array.shape
    np.testing.assert_array_equal(outputs["float32"], sent["float32"])
    assert outputs["string"].tolist() == [[b"a", b"\xff\x00"], ["😀".encode(), b""]]


@every
def test_output_filter(ask: Callable[[str, Call], Any], how: str) -> None:
    inputs = {"item_ids": np.array([["1"]], dtype=object), "history": np.empty((1, 0), dtype=object)}
    inputs |= {name: np.array([""], dtype=object) for name in ("user_id", "query", "language", "country")}
    inputs["timestamp"] = np.array([0])
    assert list(ask(how, lambda client: client.predict("rank", inputs, ["scores"]))) == ["scores"]
    with pytest.raises(BadRequestError, match="none"):
        ask(how, lambda client: client.predict("rank", inputs, ["none"]))


@every
def test_errors(ask: Callable[[str, Call], Any], live: Live, how: str) -> None:
    for call, kind, message in (
        (lambda client: client.predict("rank", {}), BadRequestError, "item_ids|named input"),
        (lambda client: client.predict("none", {}), BadRequestError, 'signature.*"none"'),
        (lambda client: client.encode(["a"], timeout=-1), BadRequestError, "timeout"),
        (
            lambda client: client.predict("slow", {"seconds": np.array([1.0])}, timeout=0.3),
            DeadlineExceededError,
            r"within 0\.3 s",
        ),
    ):
        with pytest.raises(kind, match=message):
            ask(how, call)
    target = live.grpc if how.startswith("grpc") else live.rest
    for options in ({"model_name": "other"}, {"version": 7}):
        with RecommenderClient(target, **options) as client, pytest.raises(ModelNotFoundError):  # type: ignore[arg-type]
            client.recommend(Query())


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_compressed_requests_are_understood(live: Live, compression: str | None) -> None:
    texts = ["x" * 1000] * 50
    for target in (live.grpc, live.rest):
        with RecommenderClient(target, compression=compression, timeout=30) as client:
            assert client.encode(texts).shape == (50, 512)


def test_a_pinned_version_and_its_metadata(live: Live) -> None:
    for target in (live.grpc, live.rest):
        with RecommenderClient(target, version=1, timeout=30) as client:
            assert client.recommend(Query(k=1))[0].item_id == "1"
            assert [version.version for version in client.status()] == [1]


def test_many_at_once(live: Live) -> None:
    async def run(target: str) -> list[Any]:
        async with AsyncRecommenderClient(target, timeout=60) as client:
            return await asyncio.gather(*(client.recommend(Query(k=2)) for _ in range(50)))

    for target in (live.grpc, live.rest):
        with RecommenderClient(target, timeout=60) as client:
            expected = client.recommend(Query(k=2))
            with ThreadPoolExecutor(8) as pool:
                assert all(items == expected for items in pool.map(lambda _: client.recommend(Query(k=2)), range(50)))
        assert all(items == expected for items in asyncio.run(run(target)))


def test_fallback_to_the_live_rest_api(live: Live) -> None:
    with RecommenderClient(f"localhost:{free_port()}", fallback=live.rest, timeout=30) as client:
        assert [item.item_id for item in client.recommend(Query(k=2))] == ["1", "2"]
        assert client.metadata().version == 1


def test_swapped_ports_are_recognised(live: Live) -> None:
    with pytest.raises(UnreachableError, match="write http://host:port"):
        RecommenderClient(live.rest.removeprefix("http://"), retry=None).recommend(Query())
    with pytest.raises(UnreachableError, match="write host:port"):
        RecommenderClient(f"http://{live.grpc}", retry=None).recommend(Query())


class Slow(tf.Module):  # type: ignore[misc]
    """Busy for some milliseconds per request."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64, name="x")])  # type: ignore[untyped-decorator]
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


# The command line


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving.client", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_commands(live: Live, transport: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    at = ["--address", getattr(live, transport), "--timeout", "30", "-H", "trace=1"]

    def output_of(*arguments: str, status: int = 0) -> str:
        assert main([arguments[0], *at, *arguments[1:]]) == status
        return capsys.readouterr().out

    assert "Toy Story" in output_of("recommend", "--k", "2")
    rows = json.loads(output_of("retrieve", "--history", "1,2", "--k", "2", "--json"))
    assert [row["item_id"] for row in rows] == ["3", "4"]
    table = output_of("metadata")
    assert "recommender, version 1" in table
    assert "encode_text" in table
    assert "[?, 512]" in table
    assert json.loads(output_of("metadata", "--json"))["signatures"]["encode_text"]["inputs"] == {
        "text": {"dtype": "string", "shape": [-1]}
    }
    assert output_of("health") == "SERVING\n"
    assert json.loads(output_of("health", "--json")) == {"status": "SERVING"}
    request = {"text": ["a", {"b64": "/w=="}]}
    shown = output_of("predict", "--signature", "encode_text", "--inputs", json.dumps(request))
    assert "float32" in shown
    assert "[2, 512]" in shown
    (tmp_path / "request.json").write_text(json.dumps({"signature_name": "encode_text", "inputs": request}))
    arguments = ("predict", "--signature", "encode_text", "--inputs", f"@{tmp_path / 'request.json'}", "--json")
    vectors = np.array(json.loads(output_of(*arguments))["embeddings"])
    assert vectors.shape == (2, 512)
    assert vectors.sum() == 2


def test_predict_reads_standard_input_and_picks_outputs(live: Live) -> None:
    query = {"item_ids": [["8", "nope"]], "user_id": [""], "query": [""], "language": ["ru"], "country": [""]}
    document = json.dumps({**query, "history": [[]], "timestamp": [0]})
    arguments = ("predict", "--address", live.grpc, "--signature", "rank", "--inputs", "-", "--output", "scores")
    done = run(*arguments, "--json", stdin=document)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"scores": [[pytest.approx(0.45), -np.inf]]}


def test_tables_fit_a_terminal(live: Live) -> None:
    """In a terminal of 40 columns everything is shown, folded; in a pipe nothing is folded."""
    from wcwidth import wcswidth

    arguments = [sys.executable, "-m", "serving.client", "recommend", "--address", live.grpc, "--k", "8"]
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": "40", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=slave)
    os.close(slave)
    shown = b""
    try:
        while data := os.read(master, 1 << 16):
            shown += data
    except OSError:  # how Linux reports that the other end is closed
        pass
    os.close(master)
    assert process.wait(30) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert "\x1b[1m" in shown.decode()  # the header is bold
    assert max(wcswidth(line) for line in lines) <= 40
    assert "千と千尋の神隠し" not in "".join(lines)  # folded
    piped = run(*arguments[3:]).stdout
    assert "\x1b" not in piped
    assert "千と千尋の神隠し" in piped


def test_command_line_mistakes_are_one_line(live: Live, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def failed(*arguments: str) -> tuple[int, str]:
        try:
            status = main([*arguments])
        except SystemExit as stop:
            status = int(str(stop.code))
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        return status, captured.err

    at = ("--address", live.grpc, "--timeout", "30")
    encode = ("predict", *at, "--signature", "encode_text", "--inputs")
    for arguments, status, part in (
        ((*encode, "{"), 2, "--inputs is not valid JSON"),
        ((*encode, "[1]"), 2, "must be an object"),
        ((*encode, '{"text": [1]}'), 2, "input text (string): 1 is neither a string"),
        ((*encode, '{"words": []}'), 2, "has no input words; it has text"),
        ((*encode, "@/no/such/file"), 2, "No such file"),
        (("predict", *at, "--signature", "x", "--inputs", "{}"), 2, 'no signature "x"'),
        (("recommend", *at, "-H", "novalue"), 2, "KEY=VALUE"),
        (("recommend", *at, "-H", "bad key=1"), 2, "bad key"),
        (("recommend", *at, "--tls-ca", "/no/such/file"), 2, "ca file /no/such/file"),
        (("recommend", *at, "--model-version", "1", "--model-label", "x"), 2, "not both"),
        (("recommend", "--address", "localhost"), 2, "localhost:8500"),
        (("recommend", *at, "--retries", "9"), 2, "--retries"),
        (("health", *at, "no-such-model"), 5, "no-such-model|NOT_FOUND|unknown"),
        (("reload", *at, "/no/such/file"), 2, "No such file"),
        (("reload", "--address", live.rest, os.devnull), 2, "can't reload"),
    ):
        code, error = failed(*arguments)
        assert code == status, error
        assert any(each in error for each in part.split("|")), error


def test_reload(exports: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_version(exports[1], tmp_path / "one" / "1")
    copy_version(exports[2], tmp_path / "two" / "1")
    entry = 'config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }}'
    both_models = tmp_path / "models.config"
    entries = [entry.format("recommender", tmp_path / "one"), entry.format("second", tmp_path / "two")]
    both_models.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    with LiveServer(tmp_path / "one") as server:
        at = ["--address", server.address, "--timeout", "60"]
        assert main(["status", *at, "--model", "second"]) == 5
        assert main(["reload", *at, str(both_models)]) == 0
        assert "has loaded the configuration" in capsys.readouterr().out
        with RecommenderClient(server.address, "second", timeout=60) as client:
            assert client.recommend(Query(k=1))[0].score == pytest.approx(100.9)
            with pytest.raises(BadRequestError, match="not a ModelServerConfig in text form: 1:"):
                client.reload("model_config_list { colour: 1 }")
            client.reload(f"model_config_list {{ {entries[0]} }}")
            with pytest.raises(ModelNotFoundError):
                client.recommend(Query())
