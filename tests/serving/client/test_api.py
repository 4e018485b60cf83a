"""What the package exports: names, light imports, and methods written once with the types of both clients."""

import inspect
import pydoc
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import pytest

from serving import client as client_package
from serving.client import (
    AsyncRecommenderClient,
    ModelMetadata,
    Query,
    RankedItem,
    Recommendation,
    RecommenderClient,
    VersionStatus,
)
from tests.serving.live import ROOT

METHODS = [
    "close",
    "encode",
    "health",
    "metadata",
    "predict",
    "predict_with_version",
    "rank",
    "rank_batch",
    "recommend",
    "recommend_batch",
    "reload",
    "retrieve_batch",
    "status",
]


def test_all_names_exist() -> None:
    for name in client_package.__all__:
        assert getattr(client_package, name).__module__.startswith("serving.client.")
    with pytest.raises(AttributeError, match="nothing"):
        client_package.nothing  # noqa: B018
    assert set(client_package.__all__) >= {"RecommenderClient", "AsyncRecommenderClient", "TlsOptions", "RetryPolicy"}


def test_imports_are_light() -> None:
    """No HTTP and no tables for gRPC users who print nothing; not even gRPC for --help."""
    program = """
import sys
from serving.client import RecommenderClient
RecommenderClient("localhost:1", fallback="http://localhost:2").close()
heavy = [name for name in ("httpx", "rich", "tensorflow", "trainer") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    program = """
import sys
from serving.client.cli import main
try:
    main(["--help"])
except SystemExit as stop:
    assert stop.code == 0
heavy = [name for name in ("grpc", "numpy", "httpx", "rich", "tensorflow") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "examples:" in done.stdout


def test_missing_httpx_is_named() -> None:
    program = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "httpx" else real(name, package)
from serving.client import BadRequestError, RecommenderClient
try:
    RecommenderClient("http://localhost:1")
except BadRequestError as error:
    assert "pip install httpx" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("kind", [RecommenderClient, AsyncRecommenderClient])
def test_the_methods_of_both_clients(kind: type) -> None:
    assert [name for name in dir(kind) if not name.startswith("_")] == METHODS
    for name in METHODS:
        method = getattr(kind, name)
        assert inspect.isfunction(method)
        assert inspect.iscoroutinefunction(method) == (kind is AsyncRecommenderClient)


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_have_the_same_signature_and_documentation(name: str) -> None:
    blocking, coroutine = getattr(RecommenderClient, name), getattr(AsyncRecommenderClient, name)
    assert inspect.signature(blocking) == inspect.signature(coroutine)
    assert inspect.getdoc(blocking) == inspect.getdoc(coroutine) != ""


def test_help_shows_the_signature() -> None:
    shown = pydoc.plain(pydoc.render_doc(RecommenderClient.recommend))
    assert "recommend(self, query: serving.client.types.Query, *, timeout: float | None = None, metadata:" in shown
    assert "-> list[serving.client.types.Recommendation]" in shown
    assert "Recommends items for one query" in shown
    assert "async recommend(" not in shown
    assert "async recommend(" in pydoc.plain(pydoc.render_doc(AsyncRecommenderClient.recommend))


# Never called: mypy checks the types, and that it refuses what is marked (warn_unused_ignores, pyproject.toml).


def blocking_types(client: RecommenderClient) -> None:
    query, queries = Query(user_id="42"), [Query()]
    assert_type(client.recommend(query), list[Recommendation])
    assert_type(client.recommend_batch(queries, timeout=1), list[list[Recommendation]])
    assert_type(client.retrieve_batch(queries, metadata={"a": "b"}), list[list[Recommendation]])
    assert_type(client.rank(query, ["1"]), list[RankedItem])
    assert_type(client.rank_batch(queries, [["1"]]), list[list[RankedItem]])
    assert_type(client.encode(["a"]), npt.NDArray[np.float32])
    assert_type(client.predict("rank", {}, ["scores"]), dict[str, npt.NDArray[Any]])
    assert_type(client.status(), list[VersionStatus])
    assert_type(client.metadata(), ModelMetadata)
    assert_type(client.health("m"), str)
    unbound: Callable[[RecommenderClient, Query], list[Recommendation]] = RecommenderClient.recommend
    unbound(client, query)
    with client as entered:
        assert_type(entered, RecommenderClient)
    client.recommend("42")  # type: ignore[arg-type]
    client.recommend(user_id="42")  # type: ignore[call-arg]
    client.recommend(query, timeout="1")  # type: ignore[arg-type]
    client.rank(query)  # type: ignore[call-arg]


async def coroutine_types(client: AsyncRecommenderClient) -> None:
    query, queries = Query(user_id="42"), [Query()]
    waiting = assert_type(client.recommend(query), Coroutine[Any, Any, list[Recommendation]])
    assert_type(await waiting, list[Recommendation])
    assert_type(await client.recommend_batch(queries, timeout=1), list[list[Recommendation]])
    assert_type(await client.retrieve_batch(queries, metadata={"a": "b"}), list[list[Recommendation]])
    assert_type(await client.rank(query, ["1"]), list[RankedItem])
    assert_type(await client.rank_batch(queries, [["1"]]), list[list[RankedItem]])
    assert_type(await client.encode(["a"]), npt.NDArray[np.float32])
    assert_type(await client.predict("rank", {}, ["scores"]), dict[str, npt.NDArray[Any]])
    assert_type(await client.status(), list[VersionStatus])
    assert_type(await client.metadata(), ModelMetadata)
    assert_type(await client.health("m"), str)
    async with client as entered:
        assert_type(entered, AsyncRecommenderClient)
    await client.recommend("42")  # type: ignore[arg-type]
    client.recommend(query)  # type: ignore[unused-coroutine]
