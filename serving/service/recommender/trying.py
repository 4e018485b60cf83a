"""Follows the store's roll-outs: which labels are asked, and the arm of the version that is tried."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from serving.client import AsyncRecommenderClient
from serving.client.errors import ModelNotFoundError, ServingError
from serving.service.recommender.arms import NOBODY, Arm, Canary, Choice, choose
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.model import ModelServer
from serving.service.recommender.popular import Popular
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.trouble import Trouble
from serving.service.rollout.assignment import CANARY, STABLE
from serving.service.rollout.controller import Controller, Observe
from serving.service.rollout.settings import RolloutSettings
from serving.service.store import Rollout, RolloutState, Store, StoreError

_LOG = logging.getLogger(__name__)
# Seconds after which nobody waits for an answer of a client that is no longer used.
_RETIRED: Final = 60.0
Connect = Callable[[str | None, int | None], AsyncRecommenderClient]
"""Opens a client that asks for a label, or for a version; for neither: the newest version."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """That roll-outs are followed, and how.

    Attributes:
        model: Name at the model server.
        connect: Opens clients.
        settings: Of the trials.
        observe: Reads what the versions did.
    """

    model: str
    connect: Connect
    settings: RolloutSettings
    observe: Observe


class Arms:
    """The main arm, and that of a version that is tried.

    Without one the main arm asks for the newest version, as the model server chooses it. While there is one it asks
    for the label ``stable`` (or, where the model server has no such label yet, for that version's number), since the
    newest version is the one that is tried; that has an arm of its own, which asks for ``canary``.

    Args:
        model: The model server.
        store, catalogue, settings: Of the recommender.
        rollouts: None: the store's roll-outs are not followed.

    Attributes:
        main: The arm that answers unless a roll-out says otherwise.
    """

    def __init__(
        self,
        model: ModelServer,
        store: Store,
        catalogue: Catalogue,
        settings: RecommenderSettings,
        rollouts: Rollouts | None,
    ) -> None:
        popular = Popular(store)
        self.main = Arm(model, store, catalogue, popular, settings)
        self._rollouts = rollouts
        self._store = store
        self._catalogue = catalogue
        self._popular = popular
        self._settings = settings
        self._rollout: Rollout | None = None
        self._canary: Canary | None = None
        self._newest: AsyncRecommenderClient | None = None
        self._by_label: AsyncRecommenderClient | None = None
        self._by_number: AsyncRecommenderClient | None = None
        self._retired: list[tuple[float, AsyncRecommenderClient]] = []
        self._trouble = Trouble(_LOG, "The roll-out can be followed again.")
        self._no_canary = Trouble(_LOG, "The version that is tried is there.")

    def changed(self, item_id: str) -> None:
        """An item is new or has changed."""
        self.main.tiers.changed(item_id)
        if self._canary is not None:
            self._canary.tiers.changed(item_id)

    def deleted(self, item_id: str) -> None:
        """An item is gone."""
        self.main.tiers.deleted(item_id)
        if self._canary is not None:
            self._canary.tiers.deleted(item_id)

    def choose(self, user_id: str, session_id: str) -> Choice:
        """Who answers a request."""
        return choose(self._rollout, self._canary, user_id, session_id) if self._rollout else NOBODY

    async def start(self) -> None:
        """Looks once, so that nobody gets the version that is tried for being the newest."""
        if self._rollouts is not None:
            await _try(functools.partial(self.look, self._rollouts), self._trouble)

    async def follow(self) -> None:
        """Follows the store's roll-outs, and brings them forward, until cancelled."""
        rollouts = self._rollouts
        if rollouts is None:
            return
        controller = Controller(
            self._store,
            rollouts.model,
            rollouts.settings,
            rollouts.observe,
            lambda: self._canary is not None and self._canary.is_prepared,
        )
        comparing = Trouble(_LOG, "The roll-out can be decided again.")
        # A fault of one ends the other, so that both begin again together.
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_looking(functools.partial(self.look, rollouts), self._trouble))
            group.create_task(self._keep_looking(controller.look, comparing))

    async def _keep_looking(self, look: Callable[[], Awaitable[None]], trouble: Trouble) -> None:
        while True:
            await _try(look, trouble)
            await asyncio.sleep(self._settings.model_poll)

    async def look(self, rollouts: Rollouts) -> None:
        """Does what the store's roll-out asks for.

        Raises:
            StoreError: it can't be read.
            ServingError: the model server can't be asked.
        """
        rollout = await asyncio.to_thread(self._store.current_rollout, rollouts.model)
        before = self._rollout
        if before is not None and (rollout is None or rollout.number != before.number):
            await self._end()
        if rollout is not None:
            if self._rollout is None:
                self._begin(rollout, rollouts.connect)
            self._rollout = rollout
            if rollout.state is RolloutState.ROLLED_BACK:
                await self._drop_canary()
            await self._ask_for_stable(rollout)
        await self._close_retired(_RETIRED)

    async def close(self) -> None:
        """Closes all connections."""
        await self._drop_canary()
        for client in (self._by_label, self._by_number):
            if client is not None:
                self._retire(client)
        if self._newest is not None:
            self.main.model.use(self._newest)
        await self._close_retired(0.0)
        await self.main.model.close()

    def _begin(self, rollout: Rollout, connect: Connect) -> None:
        self._newest = self.main.model.client
        self._by_label, self._by_number = connect(STABLE, None), connect(None, rollout.stable)
        if rollout.state is not RolloutState.ROLLED_BACK:
            self._canary = Canary(
                rollout.canary,
                ModelServer(connect(CANARY, None)),
                self._store,
                self._catalogue,
                self._popular,
                self._settings,
                (self.main.tiers,),
                self._no_canary,
            )

    async def _ask_for_stable(self, rollout: Rollout) -> None:
        """Chooses how the main arm asks; a server without the label would refuse every request that names it."""
        assert self._by_label is not None
        assert self._by_number is not None
        try:
            await self._by_label.status(timeout=self._settings.deadline)
            client = self._by_label
        except ModelNotFoundError:
            client = self._by_number
        if self.main.model.client is not client:
            self.main.model.use(client)
            await self.main.look()

    async def _end(self) -> None:
        """The labels have moved: what is newest now is what is to be served."""
        assert self._newest is not None
        self.main.model.use(self._newest)
        # The canary keeps answering until the main arm has the version ready.
        await self.main.look()
        await self._drop_canary()
        for client in (self._by_label, self._by_number):
            if client is not None:
                self._retire(client)
        self._rollout = self._newest = self._by_label = self._by_number = None

    async def _drop_canary(self) -> None:
        if self._canary is not None:
            canary, self._canary = self._canary, None
            await canary.stop()
            self._retire(canary.model.client)

    def _retire(self, client: AsyncRecommenderClient) -> None:
        self._retired.append((time.monotonic(), client))

    async def _close_retired(self, seconds: float) -> None:
        old = [client for since, client in self._retired if time.monotonic() - since >= seconds]
        self._retired = [each for each in self._retired if each[1] not in old]
        for client in old:
            await client.close()


async def _try(look: Callable[[], Awaitable[None]], trouble: Trouble) -> None:
    try:
        await look()
        trouble.gone()
    except (ServingError, StoreError) as error:
        trouble.met("The roll-out stays as it is: %s", error)
