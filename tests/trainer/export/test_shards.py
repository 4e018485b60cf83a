"""Shards: three models with a share of the items each answer as one model over all of them."""

import asyncio
import hashlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from serving.client import (
    AsyncShardedClient,
    Query,
    RecommenderClient,
    ServerFaultError,
    ServingError,
    ShardedAnswer,
    ShardedClient,
    UnreachableError,
)
from serving.client.cli import main as command_line
from tests.serving.live import START_SECONDS, LiveServer
from trainer.data.dataset import Dataset, write_dataset
from trainer.errors import BabelrecError
from trainer.export.export import export
from trainer.export.shards import export_shards
from trainer.export.shares import shares_of
from trainer.runs import Run

pytestmark = pytest.mark.usefixtures("cache")
_NEW = {"新电影": "zh", "فيلم": "ar", "หนังใหม่": "th", "새 영화": "ko", "🚀": "en"}
_OPTIONS = ["export.candidates=12", "export.user_histories=true"]
# Warm-up, and TensorFlow's optimisation of graphs, cost far more than all requests here.
_SESSION = "graph_options { rewrite_options { disable_meta_optimizer: true } }\n"
# Requests that come together are answered together, padded to the same width.
_BATCHING = "batch_timeout_micros { value: 20000 }\nnum_batch_threads { value: 1 }\npad_variable_length_inputs: true\n"
# What a request may say; `i0` to `i59` alternate between two genres.
_QUERIES = {
    "a known user": Query(user_id="u1", k=10),
    "a history in place of the stored one": Query(user_id="u2", history=["i1", "i3", "없는 것", "i7"], k=10),
    "a history of unknown items, so the stored one": Query(user_id="u3", history=["없는 것", "🤷"], k=10),
    "a stranger's history": Query(history=["🚀", "새 영화", "i4", "فيلم"], k=9),
    "a history longer than the model reads": Query(history=[f"i{n}" for n in range(40)], k=10),
    "what was seen": Query(user_id="u1", include_seen=True, k=61),
    "more than there are": Query(user_id="u5", k=500),
    "exclusions": Query(user_id="u4", exclude=["i0", "i2", "新电影", "หนังใหม่"], k=10),
    "languages": Query(user_id="u6", languages=["ko", "th"], k=8),
    "categories": Query(user_id="u7", categories=["Old"], k=8),
    "a text that names an item": Query(query="太空飞船 2", k=10),
    "a text that describes a category": Query(query="Romance", language="en", k=10),
    "a text in Arabic, and a user": Query(user_id="u8", query="رسالة حب", language="ar", k=10),
    "a text in Thai with filters": Query(query="จดหมายรัก", languages=["en", "zh"], exclude=["i1"], k=10),
    "a text with a history": Query(query="우주선 🚀", history=["i5", "i9"], language="ko", k=10),
    "nothing": Query(k=20),
    "nothing but a language": Query(language="ko-KR", k=66),
}


def _with_new_items(tiny: Dataset, folder: Path) -> Dataset:
    items, users = tiny.items().collect(), tiny.users()
    assert users is not None
    new = items.head(len(_NEW)).with_columns(
        item_id=pl.Series(list(_NEW)), language=pl.Series(list(_NEW.values())), title=pl.Series(list(_NEW))
    )
    return write_dataset(
        folder,
        name="later",
        description="",
        licence="made by the tests",
        homepage="",
        interactions=tiny.interactions().collect(),
        items=pl.concat([items, new]),
        users=users.collect(),
    )


@pytest.fixture(scope="module")
def later(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return _with_new_items(tiny, tmp_path_factory.mktemp("later") / "dataset")


@pytest.fixture(scope="module")
def versions(tiny_run: Run, later: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    run = Run.open(tiny_run.path, [*_OPTIONS, "export.shards=3"])
    return export_shards(run, tmp_path_factory.mktemp("models") / "모델", later)


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("session")
    (folder / "session.txt").write_text(_SESSION)
    (folder / "batching.txt").write_text(_BATCHING)
    return [
        "--enable_model_warmup=false",
        f"--tensorflow_session_config_file={folder / 'session.txt'}",
        "--enable_batching",
        f"--batching_parameters_file={folder / 'batching.txt'}",
    ]


@pytest.fixture(scope="module")
def shards(versions: list[Path], flags: list[str]) -> Iterator[list[LiveServer]]:
    with ExitStack() as stack:
        # Started at once.
        yield [stack.enter_context(LiveServer(version.parent, *flags)) for version in versions]


@pytest.fixture(scope="module")
def whole(
    tiny_run: Run, later: Dataset, flags: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RecommenderClient]:
    """One model over all items."""
    folder = tmp_path_factory.mktemp("models") / "recommender"
    export(Run.open(tiny_run.path, _OPTIONS), folder, later)
    with LiveServer(folder, *flags) as server, RecommenderClient(server.address, timeout=START_SECONDS) as client:
        yield client


@pytest.fixture(scope="module")
def addresses(shards: list[LiveServer]) -> list[str]:
    return [shard.address for shard in shards]


@pytest.fixture(scope="module")
def client(addresses: list[str]) -> Iterator[ShardedClient]:
    # In another order than that of the shards: they say themselves which they are.
    with ShardedClient(addresses[::-1], timeout=START_SECONDS) as client:
        yield client


def _ids_of(version: Path, later: Dataset) -> set[str]:
    card = json.loads((version / "assets.extra" / "model_card.json").read_text("utf-8"))
    index = card["shard"]["index"]
    ids = later.items().collect()["item_id"].to_list()
    digests = [int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "big") for item in ids]
    own = {item for item, digest in zip(ids, digests, strict=True) if digest % 3 == index}
    assert card["data"]["items"] == len(own)
    return own


def test_each_item_is_in_one_shard_by_its_id_alone(versions: list[Path], later: Dataset) -> None:
    parts = [_ids_of(version, later) for version in versions]
    assert sum(map(len, parts)) == later.items().collect().height
    assert [version.parent.name for version in versions] == [f"모델-0{n}-of-03" for n in range(3)]
    assert {version.name for version in versions} == {"1"}
    # Fixed for all time: a different hash would move items between machines.
    assert shares_of(["42", "새 영화", "🚀", "", "فيلم"], 1_000).tolist() == [
        int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "big") % 1_000
        for item in ("42", "새 영화", "🚀", "", "فيلم")
    ]


@pytest.mark.parametrize("said", list(_QUERIES))
def test_three_shards_answer_as_one_model(said: str, client: ShardedClient, whole: RecommenderClient) -> None:
    query = _QUERIES[said]
    expected, answer = whole.recommend(query), client.recommend(query)
    assert answer.missing == ()
    assert [item.item_id for item in answer.items] == [item.item_id for item in expected]
    assert len(expected) >= min(query.k, 8)
    for found, wanted in zip(answer.items, expected, strict=True):
        assert found.score == pytest.approx(wanted.score, abs=2e-5)
        assert found.heads == pytest.approx(dict(wanted.heads), abs=2e-5)
        assert (found.title, found.language) == (wanted.title, wanted.language)


def test_candidates_are_those_of_one_model(client: ShardedClient, whole: RecommenderClient) -> None:
    queries = [_QUERIES[said] for said in ("a known user", "languages", "a text with a history", "nothing")]
    expected = whole.retrieve_batch(queries)
    for found, wanted in zip(client.retrieve_batch(queries), expected, strict=True):
        assert [item.item_id for item in found.items] == [item.item_id for item in wanted]
        assert [item.score for item in found.items] == pytest.approx([item.score for item in wanted], abs=2e-5)


def test_many_at_once_a_batch_and_an_event_loop_get_the_same(client: ShardedClient, addresses: list[str]) -> None:
    queries = list(_QUERIES.values())
    alone = [client.recommend(query) for query in queries]

    async def ask() -> list[ShardedAnswer]:
        async with AsyncShardedClient(addresses, timeout=START_SECONDS) as other:
            return await other.recommend_batch(queries)

    with ThreadPoolExecutor(len(queries)) as pool:
        at_once = list(pool.map(client.recommend, queries))
    for answers in (at_once, asyncio.run(ask())):
        for one, other in zip(answers, alone, strict=True):
            assert [item.item_id for item in one.items] == [item.item_id for item in other.items]
            assert [item.score for item in one.items] == pytest.approx([item.score for item in other.items], abs=2e-5)


def _without(address: str, by: str, addresses: list[str]) -> list[str]:
    return [by if each == address else each for each in addresses]


@pytest.mark.parametrize("trouble", ["no server", "a server that hangs"])
def test_a_shard_that_is_missing_is_an_error_or_named(
    trouble: str, addresses: list[str], versions: list[Path], later: Dataset, whole: RecommenderClient
) -> None:
    gone = _ids_of(versions[1], later)
    history = [item for item in later.items().collect()["item_id"].to_list() if item not in gone][:3]
    queries = [Query(k=20), Query(history=history, k=10)]
    # One model without those items gives the same answer.
    expected = [whole.recommend(replace(query, exclude=sorted(gone))) for query in queries]
    with socket.socket() as silent:
        silent.bind(("localhost", 0))
        if trouble != "no server":
            silent.listen()
        dead = f"localhost:{silent.getsockname()[1]}"
        said = _without(addresses[1], dead, addresses)
        with ShardedClient(said, timeout=3.0) as strict, pytest.raises(ServingError, match=dead):
            strict.recommend(queries[0])
        with ShardedClient(said, timeout=20.0, partial=True) as lenient:
            answers = lenient.recommend_batch(queries)
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer.missing == (dead,)
        assert [item.item_id for item in answer.items] == [item.item_id for item in wanted]


def test_all_shards_missing_is_an_error_even_so() -> None:
    with ShardedClient(["localhost:1", "localhost:2"], partial=True) as nobody, pytest.raises(UnreachableError):
        nobody.recommend(Query())


def test_wrong_addresses_are_explained(addresses: list[str]) -> None:
    with ShardedClient(addresses[:2]) as two, pytest.raises(ServerFaultError, match="3 shards, but 2 addresses"):
        two.recommend(Query())
    twice = [addresses[0], addresses[1], addresses[0].replace("localhost", "127.0.0.1")]
    with ShardedClient(twice) as same, pytest.raises(ServerFaultError, match="both serve shard 0"):
        same.recommend(Query())


def test_the_command_line_asks_all_shards(
    addresses: list[str], whole: RecommenderClient, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = ",".join(_without(addresses[2], "localhost:1", addresses))
    assert command_line(["recommend", "--shards", ",".join(addresses), "--user", "u1", "--k", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["item_id"] for item in found] == [item.item_id for item in whole.recommend(Query(user_id="u1", k=5))]
    assert command_line(["recommend", "--shards", shards, "--retries", "0"]) == 3
    assert "localhost:1" in capsys.readouterr().err
    assert command_line(["retrieve", "--shards", shards, "--partial", "--retries", "0", "--json"]) == 0
    said = capsys.readouterr()
    assert "without the items of localhost:1" in said.err
    assert len(json.loads(said.out)) == 10


def test_what_would_not_answer_as_one_is_refused(tiny_run: Run, tmp_path: Path) -> None:
    run = Run.open(tiny_run.path, ["export.shards=3"])
    with pytest.raises(BabelrecError, match=r"export\.shards=1"):
        export(run, tmp_path / "recommender")
    (tmp_path / "recommender" / "1").mkdir(parents=True)
    with pytest.raises(BabelrecError, match="another --model-dir"):
        export_shards(run, tmp_path / "recommender")
    many = Run.open(tiny_run.path, ["export.shards=1000"])
    with pytest.raises(BabelrecError, match=r"Lower export\.shards"):
        export_shards(many, tmp_path / "many")
    assert not list(tmp_path.glob("many-*/[0-9]*"))
