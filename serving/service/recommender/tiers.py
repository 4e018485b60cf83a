"""Keeps the fresh tier in step with the store's items and the served version."""

import asyncio
import hashlib
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from serving import contract
from serving.client.errors import ServingError
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.fresh import FreshTier
from serving.service.recommender.model import ModelServer
from serving.service.recommender.vectors import ItemVectors, item_vectors, pack, unpack
from serving.service.types import Item

_LOG = logging.getLogger(__name__)
# Items of a request to `embed_items`, and seconds that one may take: a busy server answers recommendations first.
_BATCH: Final = 64
_TIMEOUT: Final = 30.0
# Seconds to wait after a failure.
_PAUSE: Final = 0.5
# What is encoded to tell two versions of the same number apart.
_PROBE: Final = Item(item_id="", language="en", title="babelrec", description="probe")


class VectorStore(Protocol):
    """Where vectors are kept for other replicas and later starts."""

    def vectors(self, version: str, batch: int = 1000) -> Iterable[tuple[str, int, bytes]]:
        """Item id, revision and bytes of all vectors of a version."""
        ...

    def put_vectors(self, version: str, vectors: dict[str, tuple[int, bytes]]) -> None:
        """Stores vectors: item id -> (revision of the item, bytes)."""
        ...


class Tiers:
    """The fresh tier of the served version, and while that changes of the one before.

    Args:
        model: Encodes items.
        store: Keeps their vectors.
        catalogue: The items.
    """

    def __init__(self, model: ModelServer, store: VectorStore, catalogue: Catalogue) -> None:
        self._model = model
        self._store = store
        self._catalogue = catalogue
        self._tiers: dict[int, FreshTier] = {}
        self._waiting: dict[str, int] = {}
        self._revisions: dict[str, int] = {}
        self._changed = asyncio.Event()

    def of(self, version: int) -> FreshTier | None:
        """The tier of a version; None: it is not known or has no signatures for fresh items."""
        return self._tiers.get(version)

    @property
    def waiting(self) -> int:
        """Items that have yet to be encoded."""
        return len(self._waiting)

    def changed(self, item_id: str, revision: int) -> None:
        """An item is new or has changed, in the catalogue too."""
        if self._revisions.get(item_id, -1) < revision:
            self._revisions[item_id] = revision
            self._waiting[item_id] = revision
            self._changed.set()

    def deleted(self, item_id: str, revision: int) -> None:
        """An item is gone."""
        self._revisions[item_id] = max(revision, self._revisions.get(item_id, -1))
        self._waiting.pop(item_id, None)
        for tier in self._tiers.values():
            tier.remove(item_id)

    async def serve(self) -> None:
        """The served version is another one: its tier is made of what the store has, and the rest waits."""
        signatures = self._model.signatures
        if not signatures.takes_items:
            return
        probe = await self._model.embed([_PROBE], timeout=_TIMEOUT)
        if probe.version != signatures.version:
            return  # changed again: there is another call to come
        digest = hashlib.sha256(probe.outputs[contract.EMBEDDINGS].tobytes()).hexdigest()[:16]
        tier = FreshTier(f"{signatures.version}-{digest}")
        stored = await asyncio.to_thread(lambda: list(self._store.vectors(tier.key)))
        left = dict(self._revisions)
        for item_id, revision, data in stored:
            if left.get(item_id) == revision:
                del left[item_id]
                _take(tier, item_id, unpack(data))
        self._waiting = {item_id: revision for item_id, revision in left.items() if item_id in self._catalogue}
        self._changed.set()
        before = self._tiers.get(max(self._tiers, default=0))
        old = {} if before is None else {max(self._tiers): before}
        self._tiers = old | {signatures.version: tier}

    async def encode_forever(self) -> None:
        """Encodes what waits, until cancelled."""
        failing = False
        while True:
            await self._changed.wait()
            try:
                await self.encode_waiting()
                failing = False
            except ServingError as error:
                if not failing:
                    _LOG.warning("%d items wait, since they can't be encoded now: %s", len(self._waiting), error)
                failing = True
                await asyncio.sleep(_PAUSE)

    async def encode_waiting(self) -> None:
        """Encodes what waits now.

        Raises:
            ServingError: the model server can't.
        """
        # Without a tier there is nothing to encode for: `serve` will make one and set the event again.
        while self._waiting and self._tiers:
            batch = dict(list(self._waiting.items())[:_BATCH])
            items = [item for item_id in batch if (item := self._catalogue.get(item_id)) is not None]
            if items:
                answer = await self._model.embed(items, timeout=_TIMEOUT)
                tier = self._tiers.get(answer.version)
                if tier is None:
                    return  # of a version that is not known yet; `serve` comes next
                await self._take(tier, items, batch, item_vectors(answer.outputs))
            for item_id, revision in batch.items():
                if self._waiting.get(item_id) == revision:
                    del self._waiting[item_id]
        self._changed.clear()

    async def _take(self, tier: FreshTier, items: list[Item], batch: dict[str, int], found: list[ItemVectors]) -> None:
        packed = {}
        for item, vectors in zip(items, found, strict=True):
            # What has changed or gone meanwhile waits again, or no more.
            if self._revisions.get(item.item_id) == batch[item.item_id] and item.item_id in self._catalogue:
                _take(tier, item.item_id, vectors)
                packed[item.item_id] = batch[item.item_id], pack(vectors)
        await asyncio.to_thread(self._store.put_vectors, tier.key, packed)


def _take(tier: FreshTier, item_id: str, vectors: ItemVectors) -> None:
    if vectors.sealed:
        tier.remove(item_id)
    else:
        tier.put(item_id, vectors)
