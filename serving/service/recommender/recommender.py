"""Answers requests with what the store has heard until now; what the interface calls.

The model server is asked once for what is in its index, and once more only if fresh items belong into the list. When
it is slow or gone the store's popular items answer, marked as degraded.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from serving.client.errors import BadRequestError, ServingError
from serving.service.errors import InvalidRequestError, UnavailableError
from serving.service.recommendation import RecommendationRequest, RecommendationResponse, ScoredItem
from serving.service.recommender.answer_log import AnswerLog
from serving.service.recommender.arms import AWAY, Canary
from serving.service.recommender.asking import Asked, Requests
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.exploring import Explorer
from serving.service.recommender.following import Follower
from serving.service.recommender.histories import Histories
from serving.service.recommender.listing import Lists
from serving.service.recommender.merging import Scored
from serving.service.recommender.model import ModelServer
from serving.service.recommender.people import Profiles
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.tasks import keep_on
from serving.service.recommender.trouble import Trouble
from serving.service.recommender.trying import Arms, Rollouts
from serving.service.rules import RulesError
from serving.service.store import Store, StoreError
from serving.service.types import Event, ItemChange, ShownItem, ShownRecommendation, User

_LOG = logging.getLogger(__name__)


class LiveRecommender:
    """See `serving.service.recommendation.Recommender`; lives in one event loop.

    Args:
        store: Of the service.
        model: The model server.
        settings: Default: those of `RecommenderSettings`.
        rollouts: Default: the store's roll-outs are not followed.
    """

    def __init__(
        self,
        store: Store,
        model: ModelServer,
        settings: RecommenderSettings | None = None,
        rollouts: Rollouts | None = None,
    ) -> None:
        self._settings = settings = settings or RecommenderSettings()
        self._follows_rollouts = rollouts is not None
        self._store = store
        self._model = model
        self._catalogue = Catalogue()
        self._profiles = Profiles(store)
        self._arms = Arms(model, store, self._catalogue, settings, rollouts)
        self._log = AnswerLog(store)
        histories = Histories(store, settings.history)
        self._follower = Follower(store, histories, self._profiles, self._catalogue, self._arms)
        self._requests = Requests(histories, self._profiles, self._catalogue, self._follower.is_gone, settings)
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
        await self._arms.start()
        await self._look_at_model()
        self._tasks = [
            asyncio.create_task(keep_on(work))
            for work in (
                lambda: self._follower.follow(self._settings.poll, self._look_at_rules),
                self._watch_model,
                self._arms.main.tiers.encode_forever,
                self._log.write_forever,
            )
        ]
        if self._follows_rollouts:
            self._tasks.append(asyncio.create_task(keep_on(self._arms.follow)))

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
            await self._arms.close()

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
        return self._arms.main.tiers.waiting

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

    async def preview(self, request: RecommendationRequest, rules: str) -> RecommendationResponse:
        """The answer that other rules would give."""
        # What is explored by chance would be taken for an effect of the rules.
        lists = Lists(self._catalogue, Explorer(share=0.0, least=0))
        lists.read_rules(rules)
        asked = await self._requests.read(request)
        main = self._arms.main
        return await lists.fill(main, asked, await main.candidates.find(asked, lists.pool(asked)))

    async def rank(self, request: RecommendationRequest, item_ids: Sequence[str]) -> Sequence[ScoredItem]:
        """Scores of given items, in their order."""
        asked = await self._requests.read(request)
        there = [item_id for item_id in dict.fromkeys(item_ids) if item_id and not self._catalogue.is_deleted(item_id)]
        found = await self._scores(asked, there)
        return [
            ScoredItem(item_id=item_id, score=None)
            if (each := found.get(item_id)) is None
            else ScoredItem(item_id=item_id, score=each.score, heads=each.heads)
            for item_id in item_ids
        ]

    async def _scores(self, asked: Asked, item_ids: Sequence[str]) -> dict[str, Scored]:
        canary = self._arms.choose(asked.request.user_id, asked.request.session_id).canary
        if canary is not None:
            # What it can't say the stable version does.
            with contextlib.suppress(ServingError):
                return await canary.candidates.scores(asked.for_canary(), item_ids)
        try:
            return await self._arms.main.candidates.scores(asked, item_ids)
        except BadRequestError as error:
            raise InvalidRequestError(str(error)) from None
        except ServingError as error:
            raise UnavailableError(f"The model server gave no scores: {error}") from None

    async def _answer(self, asked: Asked, erasures: str) -> RecommendationResponse:
        choice = self._arms.choose(asked.request.user_id, asked.request.session_id)
        response = None if choice.canary is None else await self._of_canary(choice.canary, asked)
        if response is None:
            main = self._arms.main
            found = await main.candidates.find(asked, self._lists.pool(asked))
            response = await self._lists.fill(main, asked, found)
        if choice.variant:
            response = replace(response, variant=choice.variant)
        self._log.add(_shown(asked, response), erasures)
        return response

    async def _of_canary(self, canary: Canary, asked: Asked) -> RecommendationResponse | None:
        """None if the version that is tried gives no answer."""
        asked = asked.for_canary()
        try:
            found = await canary.candidates.of_model(asked, self._lists.pool(asked))
        except InvalidRequestError:
            return None  # whether the request is wrong the stable version says
        # Somebody may have moved the label to another version, of which nobody has said that it is to be tried.
        if found is None or found.version != canary.version:
            return None
        return await self._lists.fill(canary, asked, found)

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
            self._lists.read_rules(text)
        except RulesError as error:
            _LOG.error("Rules of revision %d can't be read, the earlier ones stay: %s", revision, error)
        self._rules_revision = revision

    async def _look_at_model(self) -> None:
        try:
            await self._arms.main.look()
            self._no_model.gone()
        except (ServingError, StoreError) as error:
            self._no_model.met("The served version can't be prepared: %s", error)

    async def _watch_model(self) -> None:
        while True:
            seconds = self._settings.model_poll if self._model.reachable else min(self._settings.model_poll, AWAY)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._model.swapped.wait(), seconds)
            await self._look_at_model()
            # Behind a balancer two versions may answer in turn.
            await asyncio.sleep(min(self._settings.model_poll, AWAY))


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
