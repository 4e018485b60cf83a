"""Answers requests: history from the store, the model's items and the fresh ones, rules, exploration.

The model server is asked once for what is in its index, and once more only if fresh items belong into the list. When
it is slow or gone the store's popular items answer, marked as degraded.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client import Query
from serving.client.errors import BadRequestError, ServingError
from serving.client.types import Arrays
from serving.service import diversity, rules
from serving.service.errors import InvalidRequestError, UnavailableError
from serving.service.recommendation import (
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    RuleEffect,
    ScoredItem,
)
from serving.service.recommender.answer_log import AnswerLog
from serving.service.recommender.catalogue import Catalogue, allows
from serving.service.recommender.exploring import Explorer
from serving.service.recommender.following import Follower
from serving.service.recommender.histories import Histories
from serving.service.recommender.merging import Scored, merged, of_fresh, of_index
from serving.service.recommender.model import ModelServer, Versioned
from serving.service.recommender.people import Profiles
from serving.service.recommender.popular import Popular
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.tiers import Tiers
from serving.service.store import ItemChange, Store
from serving.service.types import Event, Item, ShownItem, ShownRecommendation, User

_LOG = logging.getLogger(__name__)
# Candidates that rules and diversity choose from: so many times the list's length, and at least and at most so many.
_POOL_FACTOR, _POOL_LEAST, _POOL_MOST = 4, 50, 200
# Items that the model is asked for in addition, in place of those that may not be shown; and how often it is asked
# again, each time for twice as many.
_SPARE, _TIMES = 20, 3
_MOST = 1_000


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with what is known of who asks."""

    request: RecommendationRequest
    query: Query
    allowed: Callable[[str], bool]
    now: float
    until: float

    @property
    def left(self) -> float:
        """Seconds that there are left."""
        return max(self.until - time.monotonic(), 0.001)


@dataclass(frozen=True, slots=True)
class _List:
    """Candidates, best first, the version they are from, and vectors of some of them."""

    version: int
    items: list[Scored]
    vectors: dict[str, npt.NDArray[np.float32]]
    popular: bool = False


class LiveRecommender:
    """See `serving.service.recommendation.Recommender`; lives in one event loop.

    Args:
        store: Of the service.
        model: The model server.
        settings: Default: those of `RecommenderSettings`.
    """

    def __init__(self, store: Store, model: ModelServer, settings: RecommenderSettings | None = None) -> None:
        self._settings = settings or RecommenderSettings()
        self._store = store
        self._model = model
        self._catalogue = Catalogue()
        self._histories = Histories(self._settings.history)
        self._profiles = Profiles(store)
        self._popular = Popular(store)
        self._tiers = Tiers(model, store, self._catalogue)
        self._follower = Follower(store, self._histories, self._catalogue, self._tiers)
        self._explorer = Explorer(self._settings.explore, self._settings.explore_least)
        self._log = AnswerLog(store)
        self._rules = rules.Rules()
        self._rules_revision = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Starts."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        await self.close()

    async def start(self) -> None:
        """Reads the store and follows it and the model server from now on."""
        await self._follower.start()
        await self._read_rules()
        await self._look_at_model()
        self._tasks = [
            asyncio.create_task(work)
            for work in (
                self._follower.follow(self._settings.poll, self._read_rules),
                self._watch_model(),
                self._tiers.encode_forever(),
                self._log.write_forever(),
            )
        ]

    async def close(self) -> None:
        """Writes down what has been answered, and ends."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._log.flush()
        await self._model.close()

    @property
    def ready(self) -> bool:
        """Whether a model server answers."""
        return self._model.reachable

    @property
    def model_version(self) -> int:
        """The served version; 0: none."""
        return self._model.signatures.version

    @property
    def waiting_items(self) -> int:
        """Items that have yet to be encoded."""
        return self._tiers.waiting

    def heard(self, events: Sequence[Event]) -> None:
        """Events that have been stored count from now on."""
        self._follower.hear(events)

    def items_changed(self, changes: Sequence[ItemChange]) -> None:
        """Items that have been stored or deleted count from now on."""
        self._follower.take(changes)

    def user_changed(self, user: User) -> None:
        """A profile that has been stored counts from now on."""
        self._profiles.put(user)

    def user_deleted(self, user_id: str) -> None:
        """A person has been deleted from the store."""
        self._follower.forget_user(user_id)
        self._profiles.forget(user_id)

    async def rules_changed(self) -> None:
        """Rules that have been stored count from now on."""
        await self._read_rules()

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        """The best items for a request, with text or without."""
        return await self._answer(await self._understand(request))

    async def similar(self, item_id: str, request: RecommendationRequest) -> RecommendationResponse:
        """Items that go with an item, whoever asks."""
        nobody = replace(
            request, user_id="", session_id="", query="", seen=[item_id], exclude=[*request.exclude, item_id]
        )
        return await self._answer(await self._understand(nobody))

    async def rank(self, request: RecommendationRequest, item_ids: Sequence[str]) -> Sequence[ScoredItem]:
        """Scores of given items, in their order."""
        asked = await self._understand(request)
        fresh = self._tiers.of(self._model.signatures.version)
        own = [item_id for item_id in item_ids if fresh is None or item_id not in fresh]
        others = [item_id for item_id in item_ids if fresh is not None and item_id in fresh]
        found: dict[str, Scored] = {}
        try:
            if own:
                answer = await self._model.rank(asked.query, own, timeout=asked.left)
                found |= {each.item_id: each for each in self._of_index(answer.outputs, lambda _: True)}
            if others and fresh is not None:
                query = replace(asked.query, k=1)
                about = await self._model.recommend(query, self._history_vectors(query.history), timeout=asked.left)
                vectors = np.stack([v for item_id in others if (v := fresh.embedding(item_id)) is not None])
                embedding = about.outputs[contract.QUERY_EMBEDDINGS]
                scored = await self._model.score(embedding, vectors, None, timeout=asked.left)
                found |= {each.item_id: each for each in of_fresh(others, scored.outputs)}
        except ServingError as error:
            raise UnavailableError(f"The model server gave no scores: {error}") from None
        known = {item_id: each for item_id, each in found.items() if each.score > contract.LOWEST_SCORE}
        return [
            ScoredItem(item_id=item_id, score=known[item_id].score, heads=known[item_id].heads)
            if item_id in known
            else ScoredItem(item_id=item_id, score=None)
            for item_id in item_ids
        ]

    async def _understand(self, request: RecommendationRequest) -> _Asked:
        now, until = time.time(), time.monotonic() + self._settings.deadline
        history = self._histories.get(request.user_id, request.session_id)
        if history is None:
            session_id = "" if request.user_id else request.session_id
            read = await asyncio.to_thread(self._store.history, request.user_id, session_id, 2 * self._settings.history)
            history = self._histories.put(request.user_id, request.session_id, read)
        profile = await self._profiles.get(request.user_id)
        seen = [item_id for item_id in request.seen if item_id]
        history = [item_id for item_id in history if item_id not in seen] + seen
        barred = set(request.exclude) | (set() if request.include_seen else set(history))
        language = request.language or next(iter(profile.languages), "")
        query = Query(
            # The model may still know whom the store has deleted.
            user_id="" if self._follower.is_gone(request.user_id) else request.user_id,
            history=history[-self._settings.history :],
            query=request.query,
            language=language,
            country=request.country or profile.country,
            timestamp=request.timestamp if request.timestamp is not None else int(now),
            k=request.k,
            exclude=list(request.exclude),
            languages=list(request.languages),
            categories=list(request.categories),
            include_seen=request.include_seen,
        )
        request = replace(request, language=language, country=query.country)

        def allowed(item_id: str) -> bool:
            return item_id not in barred and self._catalogue.may_show(item_id, now)

        return _Asked(request, query, allowed, now, until)

    async def _answer(self, asked: _Asked) -> RecommendationResponse:
        request = asked.request
        context = rules.Context(
            now=asked.now, placement=request.placement, language=request.language, country=request.country
        )
        chooses = bool(self._rules.rules) or request.diversity > 0.0
        pool = min(max(_POOL_FACTOR * request.k, _POOL_LEAST), max(_POOL_MOST, request.k)) if chooses else request.k
        found = await self._candidates(asked, pool)
        candidates = [rules.Candidate(self._item(each), each.score, each.source) for each in found.items]
        extras = [
            rules.Candidate(item, contract.LOWEST_SCORE, "pinned")
            for item_id in rules.pinned_items(self._rules, context)
            if asked.allowed(item_id) and (item := self._catalogue.get(item_id)) is not None
        ]
        choose: rules.Chooser = rules.by_score
        vectors = _rows(found, candidates) if request.diversity > 0.0 and found.vectors else None
        if vectors is not None:
            choose = diversity.DiverseChooser(vectors, request.diversity)
        outcome = rules.apply(self._rules, candidates, context, request.k, extras=extras, choose=choose)
        items = self._placed(found, outcome)
        items = self._explored(asked, found, items)
        response = RecommendationResponse(
            recommendation_id=uuid.uuid4().hex,
            model_version=found.version,
            variant="",
            degraded=found.popular,
            items=items,
            removed={removal.rule: removal.items for removal in outcome.removals},
            diversity={} if vectors is None else _cost(vectors, candidates, items),
        )
        self._write_down(asked, response)
        return response

    def _placed(self, found: _List, outcome: rules.Outcome) -> list[RecommendedItem]:
        by_id = {each.item_id: each for each in found.items}
        return [
            RecommendedItem(
                item_id=placed.item.item_id,
                position=position,
                title=placed.item.title,
                language=placed.item.language,
                score=placed.score,
                heads=by_id[placed.item.item_id].heads if placed.item.item_id in by_id else {},
                source=placed.source,
                rules=[
                    RuleEffect(rule=touch.rule, kind=touch.kind, before=touch.before, after=touch.after)
                    for touch in placed.touches
                ],
            )
            for position, placed in enumerate(outcome.items)
        ]

    def _explored(self, asked: _Asked, found: _List, items: list[RecommendedItem]) -> list[RecommendedItem]:
        tier = self._tiers.of(found.version)
        shown = {item.item_id for item in items}
        exploration = None
        if tier is not None and not found.popular:
            exploration = self._explorer.draw(
                tier, len(items), lambda item_id: item_id not in shown and self._fits(asked, item_id)
            )
        if exploration is not None:
            item = self._catalogue.get(exploration.item_id)
            assert item is not None
            items = [each if not each.position else replace(each, propensity=exploration.kept) for each in items]
            items[exploration.position] = RecommendedItem(
                item_id=item.item_id,
                position=exploration.position,
                title=item.title,
                language=item.language,
                score=items[exploration.position].score,
                propensity=exploration.propensity,
                source="explored",
            )
        self._explorer.shown([item.item_id for item in items])
        return items

    async def _candidates(self, asked: _Asked, count: int) -> _List:
        """At least so many candidates, if there are any."""
        if self._model.reachable:
            wanted = min(count + _SPARE, _MOST)
            try:
                for _ in range(_TIMES):
                    found, is_all = await self._ask(asked, wanted)
                    if is_all or len(found.items) >= count or wanted == _MOST:
                        return found
                    wanted = min(2 * wanted, _MOST)
                return found
            except BadRequestError as error:
                raise InvalidRequestError(str(error)) from None
            except ServingError as error:
                _LOG.warning("Answered without the model: %s", error)
        popular = await self._popular.items(asked.request.language)
        chosen = [item_id for item_id in popular if self._fits(asked, item_id)]
        items = [Scored(item_id, -float(place), source="popular") for place, item_id in enumerate(chosen)]
        return _List(0, items[:count], {}, popular=True)

    async def _ask(self, asked: _Asked, wanted: int) -> tuple[_List, bool]:
        """Candidates of the model and of the fresh tier, and whether the model has no more."""
        query = replace(asked.query, k=wanted)
        vectors = self._history_vectors(query.history)
        try:
            answer = await self._model.recommend(query, vectors, timeout=asked.left)
        except BadRequestError:
            if vectors is None:
                raise
            # The served version has just changed, and with it what the vectors mean.
            answer = await self._model.recommend(query, None, timeout=asked.left)
        tier = self._tiers.of(answer.version)
        index = self._of_index(
            answer.outputs, lambda item_id: asked.allowed(item_id) and (tier is None or item_id not in tier)
        )
        fresh = await self._fresh(asked, answer)
        embeddings = answer.outputs.get(contract.EMBEDDINGS)
        found: dict[str, npt.NDArray[np.float32]] = {}
        if embeddings is not None and asked.request.diversity > 0.0:
            ids = [raw.decode(errors="replace") for raw in answer.outputs[contract.ITEM_IDS]]
            found = dict(zip(ids, embeddings, strict=True))
            if tier is not None:
                width = embeddings.shape[1]
                found |= {each.item_id: v[:width] for each in fresh if (v := tier.embedding(each.item_id)) is not None}
        is_all = int(np.count_nonzero(answer.outputs[contract.ITEM_IDS] != b"")) < wanted
        return _List(answer.version, merged(index, fresh), found), is_all

    async def _fresh(self, asked: _Asked, answer: Versioned) -> list[Scored]:
        tier = self._tiers.of(answer.version)
        if tier is None or not len(tier) or contract.QUERY_EMBEDDINGS not in answer.outputs:
            return []
        typed = bool(asked.query.query.strip())
        found = tier.search(
            answer.outputs, typed, self._settings.candidates, lambda item_id: self._fits(asked, item_id)
        )
        if not found.item_ids:
            return []
        scored = await self._model.score(
            answer.outputs[contract.QUERY_EMBEDDINGS], found.embeddings, found.fits, timeout=asked.left
        )
        return of_fresh(found.item_ids, scored.outputs) if scored.version == answer.version else []

    def _fits(self, asked: _Asked, item_id: str) -> bool:
        """Whether an item of the store may be in an answer."""
        item = self._catalogue.get(item_id)
        request = asked.request
        return item is not None and asked.allowed(item_id) and allows(item, request.languages, request.categories)

    def _history_vectors(self, history: Sequence[str]) -> npt.NDArray[np.float32] | None:
        """Float32 [H, D]: the vectors of fresh items of a history; None if it has none."""
        tier = self._tiers.of(self._model.signatures.version)
        if tier is None or not any(item_id in tier for item_id in history):
            return None
        found = [tier.embedding(item_id) for item_id in history]
        width = next(len(vector) for vector in found if vector is not None)
        nothing = np.zeros(width, np.float32)
        return np.stack([nothing if vector is None else vector for vector in found])

    def _of_index(self, outputs: Arrays, allowed: Callable[[str], bool]) -> list[Scored]:
        return of_index(outputs, self._model.signatures.heads, allowed)

    def _item(self, scored: Scored) -> Item:
        """With all that rules read; of an item that the store never had, what the model says."""
        item = self._catalogue.get(scored.item_id)
        return item or Item(item_id=scored.item_id, language=scored.language, title=scored.title)

    def _write_down(self, asked: _Asked, response: RecommendationResponse) -> None:
        request = asked.request
        self._log.add(
            ShownRecommendation(
                recommendation_id=response.recommendation_id,
                timestamp=asked.now,
                user_id=request.user_id,
                session_id=request.session_id,
                placement=request.placement,
                language=request.language,
                country=request.country,
                query=request.query,
                model_version=response.model_version,
                variant=response.variant,
                degraded=response.degraded,
                items=[
                    ShownItem(item_id=i.item_id, score=i.score, propensity=i.propensity, source=i.source)
                    for i in response.items
                ],
            )
        )

    async def _read_rules(self) -> None:
        text, revision = await asyncio.to_thread(self._store.rules)
        if revision == self._rules_revision:
            return
        try:
            self._rules = rules.parse_rules(text) if text.strip() else rules.Rules()
        except rules.RulesError as error:
            _LOG.error("Rules of revision %d can't be read, the earlier ones stay: %s", revision, error)
        self._rules_revision = revision

    async def _look_at_model(self) -> None:
        try:
            changed = await self._model.refresh(self._settings.deadline)
            if changed or self._tiers.of(self._model.signatures.version) is None:
                await self._tiers.serve()
        except ServingError as error:
            _LOG.debug("The model server does not answer: %s", error)

    async def _watch_model(self) -> None:
        while True:
            await asyncio.sleep(self._settings.model_poll)
            await self._look_at_model()


def _rows(found: _List, candidates: Sequence[rules.Candidate]) -> npt.NDArray[np.float32]:
    """Vectors of the candidates, [n, d]; zeros of those that have none."""
    nothing = np.zeros_like(next(iter(found.vectors.values())))
    return np.stack([found.vectors.get(each.item.item_id, nothing) for each in candidates] or [nothing])


def _cost(
    vectors: npt.NDArray[np.float32], candidates: Sequence[rules.Candidate], items: Sequence[RecommendedItem]
) -> dict[str, float]:
    places = {candidate.item.item_id: place for place, candidate in enumerate(candidates)}
    chosen = [places[item.item_id] for item in items if item.item_id in places]
    cost = diversity.cost(vectors, [candidate.score for candidate in candidates], chosen)
    return {
        "similarity_before": cost.similarity_before,
        "similarity_after": cost.similarity_after,
        "ndcg": cost.ndcg,
    }
