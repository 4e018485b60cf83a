"""Answers requests with what the store has heard until now; what the interface calls.

The model server is asked once for what is in its index, and once more only if fresh items belong into the list. When
it is slow or gone the store's popular items answer, marked as degraded.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from serving.client.errors import BadRequestError, ServingError
from serving.service import rules
from serving.service.errors import InvalidRequestError, UnavailableError
from serving.service.recommendation import RecommendationRequest, RecommendationResponse, ScoredItem
from serving.service.recommender.answer_log import AnswerLog
from serving.service.recommender.asking import MOST_ITEMS, Asked, Requests
from serving.service.recommender.candidates import Candidates
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.exploring import Explorer
from serving.service.recommender.following import Follower
from serving.service.recommender.histories import Histories
from serving.service.recommender.listing import Lists
from serving.service.recommender.model import ModelServer
from serving.service.recommender.people import Profiles
from serving.service.recommender.popular import Popular
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.tiers import Tiers
from serving.service.recommender.trouble import Trouble
from serving.service.store import Store, StoreError
from serving.service.types import Event, ItemChange, ShownItem, ShownRecommendation, User

_LOG = logging.getLogger(__name__)
# Seconds between two attempts to reach a model server that is away, and after a task has failed.
_AWAY: Final = 0.2
_AFTER_FAULT: Final = 1.0
# Rules that leave too few are given so many times as many candidates.
_GROWTH: Final = 4


class LiveRecommender:
    """See `serving.service.recommendation.Recommender`; lives in one event loop.

    Args:
        store: Of the service.
        model: The model server.
        settings: Default: those of `RecommenderSettings`.
    """

    def __init__(self, store: Store, model: ModelServer, settings: RecommenderSettings | None = None) -> None:
        self._settings = settings = settings or RecommenderSettings()
        self._store = store
        self._model = model
        self._catalogue = Catalogue()
        self._profiles = Profiles(store)
        self._tiers = Tiers(model, store, self._catalogue)
        self._log = AnswerLog(store)
        histories = Histories(store, settings.history)
        self._follower = Follower(store, histories, self._profiles, self._catalogue, self._tiers)
        self._requests = Requests(histories, self._profiles, self._catalogue, self._follower.is_gone, settings)
        self._candidates = Candidates(model, self._tiers, self._catalogue, Popular(store), settings)
        self._lists = Lists(self._catalogue, Explorer(settings.explore, settings.explore_least))
        self._rules_revision = 0
        self._rules_read = 0.0
        self._no_model = Trouble(_LOG, "The model server answers again.")
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
        """Reads the store and follows it and the model server from now on.

        Raises:
            StoreError: the store can't be read.
        """
        await self._follower.start()
        await self._read_rules()
        await self._look_at_model()
        self._tasks = [
            asyncio.create_task(_keep_on(work))
            for work in (
                lambda: self._follower.follow(self._settings.poll, self._look_at_rules),
                self._watch_model,
                self._tiers.encode_forever,
                self._log.write_forever,
            )
        ]

    async def close(self) -> None:
        """Writes down what has been answered, and ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._log.flush()
        except StoreError as error:
            _LOG.error("The last answers can't be written down: %s", error)
        finally:
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

    async def rules_changed(self) -> None:
        """Rules that have been stored count from now on."""
        # If they can't be read now they are at the next look at the store.
        with contextlib.suppress(StoreError):
            await self._read_rules()

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        """The best items for a request, with text or without."""
        # What is not known now the store finds when the answer is written down.
        erasures = self._follower.erasures
        return await self._answer(await self._requests.read(request), erasures)

    async def similar(self, item_id: str, request: RecommendationRequest) -> RecommendationResponse:
        """Items that go with an item, whoever asks."""
        nobody = replace(
            request, user_id="", session_id="", query="", seen=[item_id], exclude=[*request.exclude, item_id]
        )
        return await self._answer(await self._requests.read(nobody), self._follower.erasures)

    async def rank(self, request: RecommendationRequest, item_ids: Sequence[str]) -> Sequence[ScoredItem]:
        """Scores of given items, in their order."""
        asked = await self._requests.read(request)
        there = [item_id for item_id in dict.fromkeys(item_ids) if item_id and not self._catalogue.is_deleted(item_id)]
        try:
            found = await self._candidates.scores(asked, there)
        except BadRequestError as error:
            raise InvalidRequestError(str(error)) from None
        except ServingError as error:
            raise UnavailableError(f"The model server gave no scores: {error}") from None
        return [
            ScoredItem(item_id=item_id, score=None)
            if (each := found.get(item_id)) is None
            else ScoredItem(item_id=item_id, score=each.score, heads=each.heads)
            for item_id in item_ids
        ]

    async def _answer(self, asked: Asked, erasures: str) -> RecommendationResponse:
        pool = self._lists.pool(asked)
        found = await self._candidates.find(asked, pool)
        response = self._lists.answer(asked, found, self._tiers.of(found.version))
        # Rules may have left too few.
        while len(response.items) < asked.request.k and pool <= len(found.items) and pool < MOST_ITEMS:
            pool = min(_GROWTH * pool, MOST_ITEMS)
            more = await self._candidates.find(asked, pool)
            if more.is_popular and not found.is_popular:
                break
            found, response = more, self._lists.answer(asked, more, self._tiers.of(more.version))
        self._log.add(_shown(asked, response), erasures)
        return response

    async def _look_at_rules(self) -> None:
        """Reads the rules as often as the served version; they change as seldom."""
        if time.monotonic() - self._rules_read >= self._settings.model_poll:
            await self._read_rules()

    async def _read_rules(self) -> None:
        self._rules_read = time.monotonic()
        text, revision = await asyncio.to_thread(self._store.rules)
        if revision <= self._rules_revision:
            return
        try:
            self._lists.rules = rules.parse_rules(text) if text.strip() else rules.Rules()
        except rules.RulesError as error:
            _LOG.error("Rules of revision %d can't be read, the earlier ones stay: %s", revision, error)
        self._rules_revision = revision

    async def _look_at_model(self) -> None:
        try:
            await self._model.refresh(self._settings.deadline)
            await self._tiers.serve()
            self._no_model.gone()
        except (ServingError, StoreError) as error:
            self._no_model.met("The served version can't be prepared: %s", error)

    async def _watch_model(self) -> None:
        while True:
            seconds = self._settings.model_poll if self._model.reachable else min(self._settings.model_poll, _AWAY)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._model.swapped.wait(), seconds)
            await self._look_at_model()
            # Behind a balancer two versions may answer in turn.
            await asyncio.sleep(min(self._settings.model_poll, _AWAY))


async def _keep_on(work: Callable[[], Awaitable[None]]) -> None:
    """Does endless work until cancelled, and begins again after a fault, which would otherwise go unnoticed."""
    while True:
        try:
            await work()
        except Exception:
            _LOG.exception("A task of the recommender has failed and begins again.")
        await asyncio.sleep(_AFTER_FAULT)


def _shown(asked: Asked, response: RecommendationResponse) -> ShownRecommendation:
    request = asked.request
    return ShownRecommendation(
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
            ShownItem(item_id=each.item_id, score=each.score, propensity=each.propensity, source=each.source)
            for each in response.items
        ],
    )
