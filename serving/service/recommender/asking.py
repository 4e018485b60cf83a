"""A request with what is known about who asks."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from serving.client import Query
from serving.service.errors import InvalidRequestError
from serving.service.recommendation import RecommendationRequest
from serving.service.recommender.catalogue import Catalogue, allows
from serving.service.recommender.facts import Wanted
from serving.service.recommender.histories import Histories
from serving.service.recommender.people import Profiles
from serving.service.recommender.settings import RecommenderSettings
from serving.service.recommender.trouble import Trouble
from serving.service.store import limits
from serving.service.store.errors import InvalidError, StoreError
from serving.service.types import User

_LOG = logging.getLogger(__name__)
MOST_ITEMS: Final = 1_000
"""The largest k; as `export.limits.k`."""
MOST_EXCLUDED: Final = 10_000
"""As `export.limits.exclude`."""
# Parts of the deadline after which the store, the model server and popular items are no longer waited for.
_STORE, _MODEL, _ALL = 0.3, 0.85, 0.95
# The part in which the canary is asked: if it gives no answer, the stable version has as much time again.
_CANARY: Final = 0.6
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with what is known about who asks.

    Attributes:
        request: With language and country of the profile where it has none.
        query: For the model.
        now: Unix seconds.
        end: When it must be answered, by `time.monotonic`.
        deadline: Seconds from its arrival until then.
        catalogue: The items.
        barred: Items that may not be in the answer.
    """

    request: RecommendationRequest
    query: Query
    now: float
    end: float
    deadline: float
    catalogue: Catalogue
    barred: frozenset[str]

    def for_canary(self) -> "Asked":
        """The same, to be answered while there is time to ask another version."""
        return replace(self, end=self.end - (1.0 - _CANARY) * self.deadline)

    @property
    def is_text(self) -> bool:
        """Whether it has text to search for."""
        return bool(self.query.query.strip())

    @property
    def wanted(self) -> Wanted:
        """The filters of items, which `allows` applies to one."""
        return Wanted(self.request.languages, self.request.categories, self.now)

    @property
    def left_for_model(self) -> float:
        """Seconds in which the model server must answer; then there is still time for popular items."""
        return self._left(_MODEL)

    @property
    def left(self) -> float:
        """Seconds that there are left in all."""
        return self._left(_ALL)

    def allows(self, item_id: str) -> bool:
        """Whether an item may be in the answer; the store need not know it."""
        if item_id in self.barred or not self.catalogue.may_show(item_id, self.now):
            return False
        item = self.catalogue.get(item_id)
        return item is None or allows(item, self.request.languages, self.request.categories)

    def allows_known(self, item_id: str) -> bool:
        """Whether it is an item of the store which may be in the answer."""
        return item_id in self.catalogue and self.allows(item_id)

    def _left(self, part: float) -> float:
        return max(self.end - (1.0 - part) * self.deadline - time.monotonic(), 0.001)


class Requests:
    """Finds out who asks.

    Args:
        histories, profiles, catalogue: Of the store.
        is_gone: Whether a person has been deleted.
        settings: The deadline, and the length of histories.
    """

    def __init__(
        self,
        histories: Histories,
        profiles: Profiles,
        catalogue: Catalogue,
        is_gone: Callable[[str], bool],
        settings: RecommenderSettings,
    ) -> None:
        self._histories = histories
        self._profiles = profiles
        self._catalogue = catalogue
        self._is_gone = is_gone
        self._settings = settings
        self._trouble = Trouble(_LOG, "Histories and profiles are read again.")

    async def read(self, request: RecommendationRequest) -> Asked:
        """Adds what the store knows; if it can't be asked, the request is answered without.

        Raises:
            InvalidRequestError: a value of the request is wrong.
        """
        _check(request)
        now, deadline = time.time(), self._settings.deadline
        end = time.monotonic() + deadline
        history, profile = await self._who(request)
        # Each item once, at its newest place.
        seen = list(dict.fromkeys(item_id for item_id in reversed(request.seen) if item_id))[::-1]
        own = frozenset(seen)
        history = [item_id for item_id in history if item_id not in own] + seen
        language = request.language or next(iter(profile.languages), "")
        country = request.country or profile.country
        query = Query(
            # The model may still know a person whom the store has deleted.
            user_id="" if self._is_gone(request.user_id) else request.user_id,
            history=history[-self._settings.history :],
            query=request.query,
            language=language,
            country=country,
            timestamp=request.timestamp if request.timestamp is not None else int(now),
            k=request.k,
            # The rest is filtered out of the model's answers.
            exclude=list(dict.fromkeys(request.exclude))[:MOST_EXCLUDED],
            languages=list(request.languages),
            categories=list(request.categories),
            include_seen=request.include_seen,
        )
        barred = frozenset(request.exclude) | (frozenset() if request.include_seen else frozenset(history))
        request = replace(request, language=language, country=country)
        return Asked(request, query, now, end, deadline, self._catalogue, barred)

    async def _who(self, request: RecommendationRequest) -> tuple[list[str], User]:
        history = self._histories.known(request.user_id, request.session_id)
        profile = self._profiles.known(request.user_id)
        if history is not None and profile is not None:
            return history, profile
        return await asyncio.gather(
            self._soon(self._histories.of(request.user_id, request.session_id), []),
            self._soon(self._profiles.get(request.user_id), User(user_id=request.user_id)),
        )

    async def _soon(self, reading: Coroutine[Any, Any, _T], otherwise: _T) -> _T:
        try:
            found = await asyncio.wait_for(reading, _STORE * self._settings.deadline)
        except (StoreError, TimeoutError) as error:
            self._trouble.met("Answered without history or profile: %s", str(error) or "the store is slow")
            return otherwise
        self._trouble.gone()
        return found


def _check(request: RecommendationRequest) -> None:
    if not 1 <= request.k <= MOST_ITEMS:
        raise InvalidRequestError(f"`k` is {request.k}. Remedy: give a number from 1 to {MOST_ITEMS:,}.")
    if not 0.0 <= request.diversity <= 1.0:
        raise InvalidRequestError(f"`diversity` is {request.diversity}. Remedy: give a number from 0 to 1.")
    try:
        limits.check_id("user_id", request.user_id, optional=True)
        limits.check_id("session_id", request.session_id, optional=True)
    except InvalidError as error:
        raise InvalidRequestError(str(error)) from None
    texts: Sequence[str] = (
        request.query,
        request.language,
        request.country,
        request.placement,
        *request.seen,
        *request.exclude,
        *request.languages,
        *request.categories,
    )
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise InvalidRequestError("A text has half of a surrogate pair. Remedy: send valid Unicode.") from None
