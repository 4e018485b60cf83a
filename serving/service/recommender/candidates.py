"""What an answer is chosen from: the model's items and the fresh ones, or the store's popular items."""

import asyncio
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client import Query
from serving.client.errors import BadRequestError, ServingError
from serving.service.errors import InvalidRequestError
from serving.service.recommender.asking import MOST_EXCLUDED, MOST_ITEMS, Asked
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.fresh import Found, FreshTier
from serving.service.recommender.merging import Scored, merged, of_fresh, of_index
from serving.service.recommender.model import ModelServer, Versioned
from serving.service.recommender.popular import Popular
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.tiers import Tiers
from serving.service.recommender.trouble import Trouble
from serving.service.store.errors import InvalidError, StoreError

_LOG = logging.getLogger(__name__)
# Items that the model is asked for in addition, in place of those that may not be shown. If these are too many it is
# asked again, without the ones that it gave in vain and for so many times as many.
_SPARE: Final = 20
_TIMES: Final = 6
_GROWTH: Final = 4
# Items of the catalogue that are looked at where too few are popular.
_LOOKED_AT: Final = 10_000


@dataclass(frozen=True, slots=True)
class CandidateList:
    """Candidates, best first.

    Attributes:
        version: Of the model that gave them; 0: none did.
        items: The candidates.
        vectors: Float32 [d] by item, of those that have one, if the request asks for diversity.
    """

    version: int
    items: list[Scored]
    vectors: dict[str, npt.NDArray[np.float32]]

    @property
    def is_popular(self) -> bool:
        """Whether they are the store's popular items."""
        return not self.version


class Candidates:
    """Finds candidates.

    Args:
        model: The model server.
        tiers: Fresh items.
        catalogue: All items.
        popular: For when there is no model.
        settings: How many candidates ranking takes.
        name: Of the model, for logs.
    """

    def __init__(
        self,
        model: ModelServer,
        tiers: Tiers,
        catalogue: Catalogue,
        popular: Popular,
        settings: RecommenderSettings,
        name: str = "model",
    ) -> None:
        self._name = name
        self._model = model
        self._tiers = tiers
        self._catalogue = catalogue
        self._popular = popular
        self._ranked = settings.candidates
        self._no_model = Trouble(_LOG, f"The {name} answers again.")
        self._no_scores = Trouble(_LOG, f"The {name} scores fresh items again.")
        self._no_store = Trouble(_LOG, "Popular items can be read again.")

    async def find(self, asked: Asked, count: int) -> CandidateList:
        """At least so many candidates, if there are any.

        Raises:
            InvalidRequestError: the model refuses the request.
        """
        found = await self.of_model(asked, count)
        return await self._popular_items(asked, count) if found is None else found

    async def scores(self, asked: Asked, item_ids: Sequence[str]) -> dict[str, Scored]:
        """What the model says of given items, as far as it knows them.

        Raises:
            ServingError: it says nothing.
        """
        found: dict[str, Scored] = {}
        tier = self._tiers.of(self._model.signatures.version)
        fresh = [item_id for item_id in item_ids if tier is not None and item_id in tier]
        if fresh:
            found |= {each.item_id: each for each in await self._fresh_scores(asked, fresh)}
        own = [item_id for item_id in item_ids if item_id not in found]
        if own:
            answer = await self._model.rank(asked.query, own, timeout=asked.left_for_model)
            for each in of_index(answer.outputs, self._model.signatures.heads, lambda _: True):
                if each.score > contract.LOWEST_SCORE:
                    found[each.item_id] = each
        return found

    async def of_model(self, asked: Asked, count: int) -> CandidateList | None:
        """As `find`, of the model alone: None if the model server gives no answer."""
        if not self._model.reachable:
            return None
        most, worked = MOST_ITEMS, asked.request.k
        wanted = min(count + _SPARE, most)
        exclude = dict.fromkeys(asked.query.exclude)
        found: CandidateList | None = None
        try:
            for _ in range(_TIMES):
                query = replace(asked.query, k=wanted, exclude=list(exclude)[:MOST_EXCLUDED])
                try:
                    answer = await self._recommend(asked, query)
                except BadRequestError:
                    if wanted <= worked:
                        raise
                    # The export's own limit may be lower.
                    most = wanted = worked
                    continue
                worked = wanted
                found, vain = await self._merged(asked, answer, wanted)
                is_all = np.count_nonzero(answer.outputs[contract.ITEM_IDS] != b"") < wanted
                if is_all or len(found.items) >= count or len(exclude) >= MOST_EXCLUDED:
                    break
                exclude |= dict.fromkeys(vain)
                wanted = min(_GROWTH * wanted, most)
            self._no_model.gone()
        except ServingError as error:
            # Too few are better than none of the model's.
            if found is None and isinstance(error, BadRequestError):
                raise InvalidRequestError(str(error)) from None
            if found is None:
                self._no_model.met("Answered without the %s: %s", self._name, error)
        return found

    async def _recommend(self, asked: Asked, query: Query, *, merges: bool = False) -> Versioned:
        """The model's answer, in which vectors of fresh items in the history are those of the version that gave it."""
        signatures = self._model.signatures
        version = signatures.version
        for is_last in (False, True):
            vectors = self._history_vectors(version, query.history)
            try:
                answer = await self._model.recommend(
                    query,
                    vectors,
                    timeout=asked.left_for_model,
                    merges=merges or bool(self._tiers.of(version)),
                    places=asked.request.diversity > 0.0,
                )
            except BadRequestError as error:
                # A new version may have other signatures and other vectors. Without a code the client refused it.
                if is_last or error.code is None:
                    raise
                await self._model.refresh(asked.left_for_model)
                if vectors is None and self._model.signatures is signatures:
                    raise
                version = 0 if self._model.signatures is signatures else self._model.signatures.version
                continue
            if vectors is None or answer.version == version:
                break
            version = answer.version
        return answer

    async def _merged(self, asked: Asked, answer: Versioned, wanted: int) -> tuple[CandidateList, list[str]]:
        """The model's items with the fresh ones, and those of the model's that were given in vain."""
        tier = self._tiers.of(answer.version)
        given = [raw.decode(errors="replace") for raw in answer.outputs[contract.ITEM_IDS]]
        index = of_index(
            answer.outputs,
            self._model.signatures.heads,
            lambda item_id: asked.allows(item_id) and (tier is None or item_id not in tier),
        )
        kept = {each.item_id for each in index}
        vain = [item_id for item_id in given if item_id and item_id not in kept]
        fresh = [] if tier is None else await self._fresh(asked, answer, tier, max(wanted, self._ranked))
        if len(given) >= wanted and all(given):
            # Items of the index that were not asked for may come before them.
            last = float(answer.outputs[contract.SCORES][-1])
            fresh = [each for each in fresh if each.score > last]
        vectors: dict[str, npt.NDArray[np.float32]] = {}
        places = answer.outputs.get(contract.EMBEDDINGS)
        if places is not None and asked.request.diversity > 0.0:
            vectors = {item_id: row for item_id, row in zip(given, places, strict=True) if item_id in kept}
            for each in fresh:
                vector = None if tier is None else tier.embedding(each.item_id)
                if vector is not None:
                    vectors[each.item_id] = vector[: places.shape[1]]
        return CandidateList(answer.version, merged(index, fresh), vectors), vain

    async def _fresh(self, asked: Asked, answer: Versioned, tier: FreshTier, count: int) -> list[Scored]:
        if contract.QUERY_EMBEDDINGS not in answer.outputs:
            return []  # not asked for: there was nothing in the tier yet
        found = tier.search(answer.outputs, asked.is_text, count, asked.wanted, asked.allows_known)
        try:
            return await self._score(asked, answer, found)
        except ServingError as error:
            self._no_scores.met("Answered without fresh items: %s", error)
            return []

    async def _fresh_scores(self, asked: Asked, item_ids: Sequence[str]) -> list[Scored]:
        answer = await self._recommend(asked, replace(asked.query, k=1), merges=True)
        tier = self._tiers.of(answer.version)
        if tier is None:
            return []
        return await self._score(asked, answer, tier.of(item_ids, answer.outputs, asked.is_text))

    async def _score(self, asked: Asked, answer: Versioned, found: Found) -> list[Scored]:
        """Fresh items with their final scores; none if the version has changed since ``answer``."""
        if not found.item_ids:
            return []
        query = answer.outputs[contract.QUERY_EMBEDDINGS]
        try:
            scored = await self._model.score(query, found.embeddings, found.fits, timeout=asked.left_for_model)
        except BadRequestError:
            return []  # a new version with vectors of another width
        if scored.version != answer.version:
            return []
        self._no_scores.gone()
        if not answer.outputs[contract.INFORMED]:
            # As for the model's own items their popularity counts then: nobody has seen them yet.
            scored.outputs[contract.SCORES] = np.zeros_like(scored.outputs[contract.SCORES])
        return of_fresh(found.item_ids, scored.outputs)

    def _history_vectors(self, version: int, history: Sequence[str]) -> npt.NDArray[np.float32] | None:
        """Float32 [H, D]: the vectors of fresh items of a history; None if it has none."""
        tier = self._tiers.of(version)
        if tier is None or not any(item_id in tier for item_id in history):
            return None
        found = [tier.embedding(item_id) for item_id in history]
        width = next(len(vector) for vector in found if vector is not None)
        nothing = np.zeros(width, np.float32)
        return np.stack([nothing if vector is None else vector for vector in found])

    async def _popular_items(self, asked: Asked, count: int) -> CandidateList:
        language = asked.request.language
        try:
            popular = await asyncio.wait_for(self._popular.items(language), asked.left)
            self._no_store.gone()
        except InvalidError as error:
            raise InvalidRequestError(str(error)) from None
        except (StoreError, TimeoutError) as error:
            self._no_store.met("Popular items can't be read: %s", str(error) or "the store is slow")
            popular = self._popular.known(language)
        others = (item.item_id for item in itertools.islice(self._catalogue.newest(), _LOOKED_AT))
        chosen: dict[str, None] = {}
        for item_id in itertools.chain(popular, others):
            if item_id not in chosen and asked.allows_known(item_id):
                chosen[item_id] = None
                if len(chosen) == count:
                    break
        return CandidateList(0, [Scored(each, -float(n), source="popular") for n, each in enumerate(chosen)], {})


def vectors_of(found: CandidateList) -> npt.NDArray[np.float32] | None:
    """A row for each candidate, [n, d], zeros for those without a vector; None if none has one."""
    if not found.items or not found.vectors:
        return None
    nothing = np.zeros_like(next(iter(found.vectors.values())))
    return np.stack([found.vectors.get(each.item_id, nothing) for each in found.items])
