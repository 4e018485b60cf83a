"""A live OpenAI-compatible endpoint on a free port, and Apertium if installed."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from trainer.text.settings import ChatTranslatorConfig

KEY = "sk-of-the-tests"
# Status, headers, body of an answer.
Reply = tuple[int, dict[str, str], bytes]


def completion(content: str | None, tokens: int | None = 10) -> Reply:
    """A chat completion as in the endpoint's specification."""
    body: dict[str, Any] = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}
    if tokens is not None:
        body["usage"] = {"total_tokens": tokens}
    return 200, {}, json.dumps(body, ensure_ascii=False).encode()


def failure(status: int, message: str, **headers: str) -> Reply:
    """An error as in the endpoint's specification."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"error": {"message": message}}).encode()


def upper(texts: list[str]) -> list[str]:
    """The endpoint's translation."""
    return [f"<{text.upper()}>" for text in texts]


@dataclass
class Endpoint:
    """Upper-cases; ``replies`` are given first, each once, in order."""

    url: str = ""
    replies: list[Reply | Callable[[list[str]], Reply]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, headers: Message, body: dict[str, Any]) -> Reply:
        texts = json.loads(body["messages"][-1]["content"])
        with self.lock:
            self.requests.append(body | {"texts": texts})
            scripted = self.replies.pop(0) if self.replies else None
        if headers.get("Authorization") not in (None, f"Bearer {KEY}"):
            return failure(401, "Incorrect API key provided")
        if callable(scripted):
            return scripted(texts)
        return scripted or completion(json.dumps(upper(texts), ensure_ascii=False))

    @property
    def texts(self) -> list[list[str]]:
        """The texts of each request so far."""
        return [request["texts"] for request in self.requests]

    def config(self, **settings: object) -> ChatTranslatorConfig:
        return ChatTranslatorConfig.model_validate({"base_url": self.url, "model": "upper-1"} | settings)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A separate server for each test."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, content = (
                state.answer(self.headers, body)
                if self.path == "/v1/chat/completions"
                else failure(404, "no such path")
            )
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@pytest.fixture(scope="session")
def apertium() -> set[str]:
    """Apertium's installed modes; tests are skipped if eng-spa is not among them."""
    remedy = "install it: apt-get install apertium apertium-eng-spa apertium-fr-es"
    if shutil.which("apertium") is None:
        pytest.skip(f"there is no apertium on PATH; {remedy}")
    listed = subprocess.run(["apertium", "-l"], capture_output=True, text=True, check=True)
    modes = set(listed.stdout.split())
    if not {"eng-spa", "spa-eng", "fr-es"} <= modes:
        pytest.skip(f"apertium lacks eng-spa or fr-es; {remedy}")
    return modes
