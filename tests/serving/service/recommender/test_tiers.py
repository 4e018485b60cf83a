"""Fresh tiers through changes of items, versions and faults."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest

from serving.client.errors import UnreachableError
from serving.service.recommender import tiers as module
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.model import ModelServer
from serving.service.recommender.tiers import Tiers
from serving.service.store import UnavailableError
from serving.service.types import Item
from tests.serving.service.recommender.fake_model import FakeClient, Version, vector_of
from tests.serving.service.recommender.waiting import until


@dataclass
class _Store:
    rows: dict[str, dict[str, tuple[int, bytes]]] = field(default_factory=dict)
    is_down: bool = False

    def vectors(self, version: str, batch: int = 1000) -> Iterable[tuple[str, int, bytes]]:
        self._meet()
        for item_id, (revision, data) in list(self.rows.get(version, {}).items()):
            yield item_id, revision, data

    def put_vectors(self, version: str, vectors: dict[str, tuple[int, bytes]]) -> None:
        self._meet()
        self.rows.setdefault(version, {}).update(vectors)

    def drop_vectors(self, keep: Collection[str]) -> int:
        self._meet()
        gone = [version for version in self.rows if version not in keep]
        for version in gone:
            del self.rows[version]
        return len(gone)

    def revisions(self) -> dict[str, int]:
        """Of the items of all versions."""
        return {item_id: revision for rows in self.rows.values() for item_id, (revision, _) in rows.items()}

    def _meet(self) -> None:
        if self.is_down:
            raise UnavailableError("gone")


class _World:
    """A model server, a store of vectors, a catalogue and its tiers."""

    def __init__(self, store: _Store | None = None, version: Version | None = None) -> None:
        self.client = FakeClient(version or Version(1))
        self.store = store or _Store()
        self.restart()

    def restart(self) -> None:
        self.catalogue = Catalogue()
        self.model: ModelServer = self.client.server()
        self.tiers = Tiers(self.model, self.store, self.catalogue)

    def put(self, item_id: str, revision: int = 1, title: str = "") -> None:
        if self.catalogue.put(Item(item_id=item_id, language="ko", title=title or item_id), revision):
            self.tiers.changed(item_id)

    def delete(self, item_id: str, revision: int) -> None:
        if self.catalogue.delete(item_id, revision):
            self.tiers.deleted(item_id)

    async def look(self) -> None:
        await self.model.refresh(1.0)
        await self.tiers.serve()

    def titles(self, version: int = 1) -> dict[str, str]:
        """Item -> the title whose vector it has."""
        tier = self.tiers.of(version)
        assert tier is not None
        found = {}
        for item_id in tier.newest():
            known = [f"{item_id}{suffix}" for suffix in ("", "2", "3")]
            vector = tier.embedding(item_id)
            assert vector is not None
            found[item_id] = next(t for t in known if np.array_equal(vector_of(t, version), vector))
        return found


@contextlib.asynccontextmanager
async def _encoding(world: _World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.tiers.encode_forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.005)
    monkeypatch.setattr(module, "_CHANGE", 0.005)


def test_a_second_start_takes_vectors_from_the_store() -> None:
    async def run() -> None:
        world = _World()
        for number in range(150):
            world.put(f"i{number}")
        await world.look()
        await world.tiers.encode_waiting()
        assert len(world.titles()) == len(world.client.embedded) == 150
        assert world.tiers.waiting == 0
        world.restart()
        for number in range(1, 150):
            world.put(f"i{number}", 2 if number == 7 else 1)
        await world.look()
        assert len(world.titles()) == 148
        await world.tiers.encode_waiting()
        assert world.client.embedded[150:] == ["i7"]
        assert len(world.titles()) == 149

    asyncio.run(run())


def test_damaged_or_strange_vectors_are_encoded_again() -> None:
    async def run() -> None:
        world = _World()
        for item_id in "abc":
            world.put(item_id)
        await world.look()
        await world.tiers.encode_waiting()
        (rows,) = world.store.rows.values()
        rows["a"] = 1, b"damaged"
        # Of another width, as after a change of the model that the probe did not notice.
        wide = FakeClient(Version(1, width=9))
        other = _World(_Store(), wide.served)
        other.put("b")
        await other.look()
        await other.tiers.encode_waiting()
        (others,) = other.store.rows.values()
        rows["b"] = others["b"]
        world.restart()
        for item_id in "abc":
            world.put(item_id)
        await world.look()
        assert set(world.titles()) == {"c"}
        await world.tiers.encode_waiting()
        assert set(world.titles()) == set("abc")

    asyncio.run(run())


def test_the_newest_items_come_first() -> None:
    async def run() -> None:
        world = _World()
        for number in range(200):
            world.put(f"i{number}")
        await world.look()
        world.put("new")
        world.put("i3", 2)
        await world.tiers.encode_waiting()
        assert world.client.embedded[:2] == ["i3", "new"]
        assert sorted(world.client.embedded) == sorted(["new", *(f"i{number}" for number in range(200))])

    asyncio.run(run())


def test_items_that_change_or_go_while_they_are_encoded() -> None:
    async def run() -> None:
        world = _World()
        await world.look()
        world.client.gate = asyncio.Event()
        async with _encoding(world):
            for item_id in "abcd":
                world.put(item_id, 1)
            await world.client.reached.wait()
            world.put("a", 2, "a2")
            world.delete("b", 2)
            world.delete("c", 2)
            world.put("c", 3, "c3")
            world.client.gate.set()
            await until(lambda: world.store.revisions() == {"a": 2, "c": 3, "d": 1})
        assert world.tiers.waiting == 0
        assert world.titles() == {"a": "a2", "c": "c3", "d": "d"}

    asyncio.run(run())


def test_an_item_that_the_model_refuses_holds_up_no_other() -> None:
    async def run() -> None:
        world = _World()
        world.client.refused = {"i33"}
        for number in range(100):
            world.put(f"i{number}")
        await world.look()
        await world.tiers.encode_waiting()
        assert world.tiers.waiting == 0
        assert set(world.titles()) == {f"i{number}" for number in range(100)} - {"i33"}
        world.put("i33", 2, "i332")
        await world.tiers.encode_waiting()
        assert world.titles()["i33"] == "i332"

    asyncio.run(run())


def test_faults_of_store_and_model_end_nothing() -> None:
    async def run() -> None:
        world = _World()
        await world.look()
        world.store.is_down = True
        async with _encoding(world):
            world.put("a")
            await until(lambda: "a" in world.titles() and not world.tiers.waiting)
            world.client.is_down = True
            world.put("b")
            await until(lambda: world.client.calls.count("embed_items") > 10)
            assert world.tiers.waiting == 1
            world.client.is_down = world.store.is_down = False
            await until(lambda: world.store.revisions() == {"b": 1})
        assert set(world.titles()) == {"a", "b"}

    asyncio.run(run())


def test_what_the_new_index_has_leaves_the_tier() -> None:
    async def run() -> None:
        world = _World()
        async with _encoding(world):
            await world.look()
            for item_id in "abc":
                world.put(item_id)
            await until(lambda: len(world.titles()) == 3)
            # The export was made before b changed.
            sealed = [Item(item_id=item_id, language="ko", title=item_id) for item_id in "ab"]
            world.client.served = Version(2, sealed)
            world.put("b", 2, "b2")
            await world.look()
            await until(lambda: world.tiers.of(2) is not None and not world.tiers.waiting)
            assert world.titles(2) == {"b": "b2", "c": "c"}
            # An answer of the version before may still be on its way.
            assert world.tiers.of(1) is not None
            world.delete("c", 2)
            assert "c" not in world.titles(2)
            assert "c" not in world.titles(1)
            world.client.served = Version(3, sealed)
            await world.look()
            assert world.tiers.of(1) is None
            assert world.tiers.of(2) is not None
            await until(lambda: not world.tiers.waiting)
            await until(lambda: sorted(key.split("-")[0] for key in world.store.rows) == ["2", "3"])

    asyncio.run(run())


def test_back_and_forth_between_versions_nothing_is_encoded_twice() -> None:
    async def run() -> None:
        world = _World()
        async with _encoding(world):
            for number in (1, 2, 1, 2, 1):
                world.client.served = Version(number)
                await world.look()
                world.put(f"n{len(world.catalogue)}")
                await until(lambda number=number: not world.tiers.waiting)
                assert set(world.titles(number)) == set(world.catalogue.revisions())
        pairs = [(i, world.client.embedded.count(i)) for i in set(world.client.embedded)]
        assert all(count <= 2 for _, count in pairs)

    asyncio.run(run())


def test_a_version_that_nobody_has_prepared_encodes_nothing_for_an_other() -> None:
    async def run() -> None:
        world = _World()
        await world.look()
        world.put("a")
        world.client.served = Version(2)
        await world.tiers.encode_waiting()
        assert world.tiers.waiting == 1
        assert world.titles(1) == {}
        assert world.model.swapped.is_set()
        async with _encoding(world):
            await world.look()
            await until(lambda: not world.tiers.waiting)
        assert world.titles(2) == {"a": "a"}

    asyncio.run(run())


def test_another_model_with_the_same_number_after_an_outage() -> None:
    async def run() -> None:
        world = _World()
        world.put("a")
        await world.look()
        await world.tiers.encode_waiting()
        world.client.is_down = True
        with pytest.raises(UnreachableError):
            await world.look()
        assert not world.model.reachable
        world.client.is_down = False
        await world.look()
        assert world.tiers.waiting == 0  # it is the same one
        world.client.is_down = True
        with pytest.raises(UnreachableError):
            await world.look()
        world.client.is_down, world.client.served = False, Version(1, salt=99)
        await world.look()
        await world.tiers.encode_waiting()
        tier = world.tiers.of(1)
        assert tier is not None
        np.testing.assert_array_equal(tier.embedding("a"), vector_of("a", 99))

    asyncio.run(run())


def test_a_model_without_signatures_for_items_is_left_alone() -> None:
    async def run() -> None:
        world = _World()
        async with _encoding(world):
            await world.look()
            world.put("a")
            await until(lambda: "a" in world.titles())
            world.client.served = Version(2, takes_items=False)
            await world.look()
            calls = len(world.client.calls)
            world.put("b")
            await asyncio.sleep(0.05)
            assert len(world.client.calls) == calls
            assert world.tiers.of(2) is None
            world.client.served = Version(3)
            await world.look()
            await until(lambda: not world.tiers.waiting)
            assert set(world.titles(3)) == {"a", "b"}

    asyncio.run(run())
