"""Keeps the fresh tier in step with the store's items and the served version."""

import asyncio
import hashlib
import itertools
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from serving import contract
from serving.client.errors import BadRequestError, ServingError
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.fresh import FreshTier
from serving.service.recommender.model import ModelServer, Signatures, Versioned
from serving.service.recommender.trouble import Trouble
from serving.service.recommender.vectors import ItemVectors, item_vectors, pack, unpack
from serving.service.store.errors import StoreError
from serving.service.store.limits import VECTOR_BYTES
from serving.service.types import Item

_LOG = logging.getLogger(__name__)
# Items of a request to `embed_items` (servers that batch take 32 rows and more), and seconds that one may take.
_BATCH: Final = 32
_TIMEOUT: Final = 30.0
# Seconds to wait after a failure, and for `serve` after a change of version.
_PAUSE: Final = 0.5
_CHANGE: Final = 0.05
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

    def drop_vectors(self, keep: Collection[str]) -> int:
        """Deletes those of all other versions."""
        ...


@dataclass(frozen=True, slots=True)
class _Tier:
    """A version's fresh tier, and the revisions of the items that it has taken or knows to be sealed."""

    fresh: FreshTier
    done: dict[str, int] = field(default_factory=dict)

    def take(self, item: Item, revision: int, vectors: ItemVectors) -> None:
        self.done[item.item_id] = revision
        if vectors.sealed:
            self.fresh.remove(item.item_id)
        else:
            self.fresh.put(item, vectors)

    def remove(self, item_id: str) -> None:
        self.done.pop(item_id, None)
        self.fresh.remove(item_id)


class Tiers:
    """The fresh tier of the served version, and that of the version before, which may still answer during a change.

    Args:
        model: Encodes items.
        store: Keeps their vectors.
        catalogue: The items.
        others: Keys of tiers that others keep, whose vectors stay in the store too.
    """

    def __init__(
        self,
        model: ModelServer,
        store: VectorStore,
        catalogue: Catalogue,
        others: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._model = model
        self._store = store
        self._catalogue = catalogue
        self._others = others
        # The one served last is last.
        self._tiers: dict[int, _Tier] = {}
        self._served = Signatures()
        # An ordered set, the newest last.
        self._waiting: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._encoding = Trouble(_LOG, "Items are encoded again.")
        self._storing = Trouble(_LOG, "Vectors are stored again.")

    def of(self, version: int) -> FreshTier | None:
        """The tier of a version; None if it is not known or has no signatures for fresh items."""
        tier = self._tiers.get(version)
        return None if tier is None else tier.fresh

    @property
    def keys(self) -> Collection[str]:
        """By which the store has the vectors of the tiers."""
        return {tier.fresh.key for tier in self._tiers.values()}

    @property
    def is_serving(self) -> bool:
        """Whether the served version has been prepared, and all items are encoded."""
        served = self._served
        waits = served.takes_items and bool(self._waiting)
        return bool(served.version) and served is self._model.signatures and not waits

    @property
    def waiting(self) -> int:
        """Items that have yet to be encoded."""
        return len(self._waiting)

    def changed(self, item_id: str) -> None:
        """An item of the catalogue is new or has changed."""
        self._waiting.pop(item_id, None)
        self._waiting[item_id] = None
        item = self._catalogue.get(item_id)
        if item is not None:
            # Filters and stock count at once, the new text when it is encoded.
            for tier in self._tiers.values():
                tier.fresh.describe(item)
        self._changed.set()

    def deleted(self, item_id: str) -> None:
        """An item is no longer in the catalogue."""
        self._waiting.pop(item_id, None)
        for tier in self._tiers.values():
            tier.remove(item_id)

    async def serve(self) -> None:
        """Prepares the tier of the served version, if that has changed.

        Vectors that the store has are taken from there; the other items wait to be encoded.

        Raises:
            ServingError, StoreError: the model server or the store can't be asked; the next call tries again.
        """
        signatures = self._model.signatures
        if signatures is self._served:
            return
        if not signatures.takes_items:
            self._served = signatures
            return
        probe = await self._model.embed([_PROBE], timeout=_TIMEOUT)
        if probe.version != signatures.version:
            return  # it has changed again, which `refresh` will tell
        key = _key(probe)
        tier = self._tiers.get(probe.version)
        is_new = tier is None or tier.fresh.key != key
        if tier is None or is_new:
            revisions = self._catalogue.revisions()
            tier = await asyncio.to_thread(self._read, key, item_vectors(probe.outputs)[0], revisions)
        for item_id, revision in list(tier.done.items()):
            if self._catalogue.revision(item_id) != revision:
                tier.remove(item_id)
        self._waiting = {
            item_id: None for item_id, revision in self._catalogue.revisions().items() if item_id not in tier.done
        }
        self._tiers.pop(probe.version, None)
        before = dict(list(self._tiers.items())[-1:])
        self._tiers = before | {probe.version: tier}
        self._served = signatures
        self._changed.set()
        if is_new and before:
            await self._drop_vectors()

    async def encode_forever(self) -> None:
        """Encodes what waits until cancelled."""
        while True:
            await self._changed.wait()
            try:
                await self.encode_waiting()
                self._encoding.gone()
                if self._changed.is_set():
                    await asyncio.sleep(_CHANGE)
            except ServingError as error:
                self._encoding.met("%d items wait to be encoded: %s", len(self._waiting), error)
                await asyncio.sleep(_PAUSE)

    async def encode_waiting(self) -> None:
        """Encodes what waits now, the newest items first, unless the served version is another one meanwhile.

        Raises:
            ServingError: the model server can't.
        """
        while self._waiting and self._served.takes_items:
            batch = list(itertools.islice(reversed(self._waiting), _BATCH))
            items = [item for item_id in batch if (item := self._catalogue.get(item_id)) is not None]
            if not await self._encode(items):
                return
        self._changed.clear()

    async def _encode(self, items: list[Item]) -> bool:
        """Encodes items; returns False if the served version is none that `serve` has prepared."""
        if not items:
            return True
        revisions = [self._catalogue.revision(item.item_id) for item in items]
        try:
            answer = await self._model.embed(items, timeout=_TIMEOUT)
        except BadRequestError as error:
            await self._model.refresh(_TIMEOUT)
            if self._model.signatures is not self._served:
                return False
            return await self._encode_parts(items, error)
        tier = self._tiers.get(answer.version)
        if tier is None:
            return False
        packed = {}
        for item, revision, vectors in zip(items, revisions, item_vectors(answer.outputs), strict=True):
            # What has changed meanwhile still waits, and what is gone no longer does.
            if revision is not None and self._catalogue.revision(item.item_id) == revision:
                tier.take(item, revision, vectors)
                packed[item.item_id] = revision, pack(vectors)
                if answer.version == self._served.version:
                    self._waiting.pop(item.item_id, None)
        await self._put_vectors(tier.fresh.key, packed)
        return answer.version == self._served.version

    async def _encode_parts(self, items: list[Item], error: BadRequestError) -> bool:
        """Finds the items that the model refuses among those of a batch that it has refused."""
        if len(items) > 1:
            middle = len(items) // 2
            return await self._encode(items[:middle]) and await self._encode(items[middle:])
        _LOG.warning("The model refuses item %r, which is in no answer of this version: %s", items[0].item_id, error)
        self._waiting.pop(items[0].item_id, None)
        return True

    async def _put_vectors(self, key: str, packed: dict[str, tuple[int, bytes]]) -> None:
        kept = {item_id: row for item_id, row in packed.items() if len(row[1]) <= VECTOR_BYTES}
        if not kept:
            return
        try:
            await asyncio.to_thread(self._store.put_vectors, key, kept)
            self._storing.gone()
        except StoreError as error:
            self._storing.met("Vectors can't be stored and will be encoded again at the next start: %s", error)

    async def _drop_vectors(self) -> None:
        try:
            await asyncio.to_thread(self._store.drop_vectors, {*self.keys, *self._others()})
        except StoreError as error:
            self._storing.met("Vectors of earlier versions can't be deleted: %s", error)

    def _read(self, key: str, probe: ItemVectors, revisions: dict[str, int]) -> _Tier:
        """A tier of what the store has of items as they are now."""
        tier = _Tier(FreshTier(key))
        damaged = 0
        for item_id, revision, data in self._store.vectors(key):
            item = self._catalogue.get(item_id)
            # One that changes from now on is dropped by `serve`.
            if item is None or revisions.get(item_id) != revision:
                continue
            try:
                vectors = unpack(data)
            except ValueError:
                damaged += 1
                continue
            if vectors.has_form_of(probe):
                tier.take(item, revision, vectors)
        if damaged:
            _LOG.warning("%d vectors in the store are damaged: these items are encoded again.", damaged)
        return tier


def _key(probe: Versioned) -> str:
    digest = hashlib.sha256(probe.outputs[contract.EMBEDDINGS].tobytes()).hexdigest()[:16]
    return f"{probe.version}-{digest}"
