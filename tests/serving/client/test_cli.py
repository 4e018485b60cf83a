"""The command line against the live server, over gRPC and REST."""

import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trustme

from serving import contract
from serving.client import BadRequestError, ModelNotFoundError, Query, RecommenderClient
from serving.client.cli import main
from tests.serving.client.conftest import Live
from tests.serving.client.servers import tls_server
from tests.serving.live import ROOT, LiveServer
from tests.serving.models import ITEMS, copy_version


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


def test_a_table(live: Live) -> None:
    from wcwidth import wcswidth

    done = run("recommend", "--address", live.grpc, "--user", "42", "--language", "zh", "--k", "8")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if line.strip() and line.split()[0].isdigit()]
    assert rows[0].split()[:5] == ["1", "流浪地球", "zh", "2", "1.0500"]
    assert "p(like)" in done.stdout
    assert "predicted rating" in done.stdout
    assert "[2006]" in done.stdout  # brackets are not markup
    assert "item-日本-🎬" in done.stdout
    # Columns are aligned for wide characters.
    assert len(rows) == len(ITEMS) == 8
    ends = {wcswidth(row[: found.end()]) for row in rows if (found := re.search(r"\d\.\d{4}", row))}
    assert len(ends) == 1


def test_json(live: Live) -> None:
    done = run(
        "recommend", "--address", live.grpc, "--json", "--history", "1,2", "--history", "3", "--exclude", "4",
        "--languages", "ko,ru,th", "--k", "5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)
    assert [item["item_id"] for item in items] == ["5", "8"]
    assert items[0]["title"] == "기생충"
    assert "기생충" in done.stdout
    assert set(items[0]["heads"]) == {"probability_like", "predicted_rating"}


def test_every_input_has_an_option(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    for command, inputs in (
        ("recommend", {**contract.QUERY_INPUTS, **contract.FILTER_INPUTS}),
        ("retrieve", {**contract.QUERY_INPUTS, **contract.FILTER_INPUTS}),
        ("rank", contract.QUERY_INPUTS),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        for name, spec in inputs.items():
            assert f"--{name.replace('_id', '').replace('_', '-')}" in shown
            assert spec.meaning in shown
    options = ["--user", "7", "--history", "1, 2", "--query", "x", "--language", "zh", "--country", "CN"]
    options += ["--timestamp", "1", "--k", "3", "--exclude", "2", "--exclude", "5,6", "--include-seen"]
    assert main(["retrieve", "--address", live.grpc, *options, "--json"]) == 0
    query = Query(
        user_id="7", history=["1", "2"], query="x", language="zh", country="CN", timestamp=1, k=3,
        exclude=["2", "5", "6"], include_seen=True,
    )  # fmt: skip
    with RecommenderClient(live.grpc, timeout=30) as client:
        (expected,) = client.retrieve_batch([query])
    assert [item["item_id"] for item in json.loads(capsys.readouterr().out)] == [item.item_id for item in expected]


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_commands(live: Live, transport: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    at = ["--address", getattr(live, transport), "--timeout", "30", "-H", "trace=1"]

    def output_of(*arguments: str, status: int = 0) -> str:
        assert main([arguments[0], *at, *arguments[1:]]) == status
        return capsys.readouterr().out

    assert "Toy Story" in output_of("recommend", "--k", "2")
    rows = json.loads(output_of("retrieve", "--history", "1,2", "--k", "2", "--json"))
    assert [row["item_id"] for row in rows] == ["3", "4"]
    assert "no items" in output_of("recommend", "--categories", "none")
    assert json.loads(output_of("rank", "--items", "8,nope,1", "--json")) == [
        {"item_id": "1", "score": pytest.approx(0.9), "heads": {"probability_like": pytest.approx(0.7109495)}},
        {"item_id": "8", "score": pytest.approx(0.2), "heads": {"probability_like": pytest.approx(0.549834)}},
        {"item_id": "nope", "score": None, "heads": {}},
    ]
    assert "unknown item" in output_of("rank", "--items", "8", "--items", "nope")
    assert "first 5 of 512" in output_of("encode", "科幻电影", "science fiction")
    assert len(json.loads(output_of("encode", "--json", "a"))[0]["embedding"]) == 512
    assert json.loads(output_of("status", "--json"))[0]["state"] == "AVAILABLE"
    assert "AVAILABLE" in output_of("status")
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
        assert captured.out == ""
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
        (("recommend", *at, "--model", "other"), 5, "Latest(other)"),
        (("recommend", *at, "--k", "0"), 2, "k must be between 1"),
        (("recommend", *at, "--k", "many"), 2, "--k"),
        (("recommend", "--languges", "de"), 2, "--languges"),
        (("recommend", "--address", "localhost:1", "--timeout", "5"), 3, "Start one with"),
        ((), 2, "COMMAND"),
        (("rank",), 2, "--items"),
    ):
        code, error = failed(*arguments)
        assert code == status, error
        assert any(each in error for each in part.split("|")), error
    with socket.create_server(("localhost", 0)) as mute:  # accepts and never sends anything
        silent = f"localhost:{mute.getsockname()[1]}"
        assert failed("recommend", "--address", silent, "--timeout", "0.3")[0] == 4


def test_tls_errors_are_one_line(authority: trustme.CA, pems: Path) -> None:
    """gRPC's own log of the handshake is off."""
    with tls_server("grpc", authority, "localhost") as rpcs:
        done = run("status", "--address", rpcs.address, "--tls-ca", str(pems / "other-ca.pem"), "--retries", "0")
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "--tls-ca" in done.stderr


def test_a_narrow_encoding(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["recommend", "--address", live.grpc, "--k", "2"]) == 0
    out.flush()
    assert b"Toy Story" in out.buffer.getvalue()


def test_a_closed_pipe(live: Live) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.client", "recommend", "--address", live.grpc],
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
