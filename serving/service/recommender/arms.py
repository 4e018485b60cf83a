"""The versions of the model that requests are answered by: one, and during a roll-out two."""

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from serving.client.errors import ServingError
from serving.service.recommender.candidates import Candidates
from serving.service.recommender.catalogue import Catalogue
from serving.service.recommender.model import ModelServer
from serving.service.recommender.popular import Popular
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.tasks import keep_on
from serving.service.recommender.tiers import Tiers
from serving.service.recommender.trouble import Trouble
from serving.service.rollout.assignment import CANARY, STABLE, place
from serving.service.store import Rollout, RolloutState, Store, StoreError

# Seconds between two attempts to reach a model server that is away.
AWAY: Final = 0.2


class Arm:
    """A version of the model, with the fresh items as it encodes them.

    Args:
        model: The model server.
        store, catalogue, popular, settings: Of the recommender.
        others: Keys of other arms' tiers.
        name: For logs.
    """

    def __init__(
        self,
        model: ModelServer,
        store: Store,
        catalogue: Catalogue,
        popular: Popular,
        settings: RecommenderSettings,
        others: Collection[Tiers] = (),
        name: str = "model",
    ) -> None:
        self.model = model
        self._timeout = settings.deadline
        self._looking = asyncio.Lock()
        self.tiers = Tiers(model, store, catalogue, lambda: {key for each in others for key in each.keys})
        self.candidates = Candidates(model, self.tiers, catalogue, popular, settings, name)

    async def look(self) -> None:
        """Finds out which version is served, and prepares its fresh items.

        Raises:
            ServingError, StoreError: the model server or the store can't be asked.
        """
        async with self._looking:
            await self.model.refresh(self._timeout)
            await self.tiers.serve()


class Canary(Arm):
    """The arm of a version that is tried.

    Attributes:
        is_prepared: Whether it has had everything ready once; what it fails to answer afterwards counts against it.
    """

    def __init__(
        self,
        version: int,
        model: ModelServer,
        store: Store,
        catalogue: Catalogue,
        popular: Popular,
        settings: RecommenderSettings,
        others: Collection[Tiers],
        trouble: Trouble,
    ) -> None:
        super().__init__(model, store, catalogue, popular, settings, others, f"canary (version {version})")
        self.version = version
        self.is_prepared = False
        self._seconds = settings.model_poll
        self._trouble = trouble
        self._tasks = [asyncio.create_task(keep_on(work)) for work in (self._watch, self.tiers.encode_forever)]

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
                is_it = self.model.signatures.version == self.version
                self.is_prepared = self.is_prepared or (is_it and self.tiers.is_serving)
                self._trouble.gone()
            except (ServingError, StoreError) as error:
                self._trouble.met("Version %d, which is to be tried, can't be prepared: %s", self.version, error)
            seconds = self._seconds if self.is_prepared else min(self._seconds, AWAY)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.model.swapped.wait(), seconds)
            await asyncio.sleep(min(self._seconds, AWAY))

    async def stop(self) -> None:
        """Ends its tasks; its client may still be waiting for answers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers a request.

    Attributes:
        canary: The version that is tried; None: it is not asked. The main one is asked where it gives no answer.
        variant: Of the answer.
    """

    canary: Canary | None = None
    variant: str = ""


NOBODY: Final = Choice()
"""The main version answers, as it does without a roll-out."""


def choose(rollout: Rollout | None, canary: Canary | None, user_id: str, session_id: str) -> Choice:
    """Who answers a request during a roll-out."""
    if rollout is None or canary is None or not canary.is_prepared or not rollout.share:
        return NOBODY
    if rollout.state is RolloutState.PROMOTED:
        return Choice(canary)
    where = place(f"{rollout.model}\0{rollout.number}", user_id, session_id)
    if where is None:
        return NOBODY
    return Choice(canary, CANARY) if where < rollout.share else Choice(None, STABLE)
