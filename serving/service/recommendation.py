"""What the service is asked for and what it answers, whatever the protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serving.service.types import Event, ItemChange, User


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationRequest:
    """A request for recommendations; every part is optional.

    Attributes:
        user_id: Who asks; empty for somebody who has not logged in.
        session_id: The visit.
        query: Free text in any language.
        language: Of the user, BCP 47; empty: that of the profile.
        country: ISO 3166-1 alpha-2.
        k: Number of items.
        languages: Allowed languages of items; empty: all.
        categories: Items must have one of these; empty: all.
        exclude: Items that must not appear.
        seen: Items that the application has just shown or that the user has just seen, newest last. They count as
            history and do not appear.
        include_seen: Whether items of the history may appear.
        placement: Where in the application.
        timestamp: Unix seconds to recommend for; None: now.
        diversity: Strength of diversity re-ranking, 0 to 1.
    """

    user_id: str = ""
    session_id: str = ""
    query: str = ""
    language: str = ""
    country: str = ""
    k: int = 10
    languages: Sequence[str] = ()
    categories: Sequence[str] = ()
    exclude: Sequence[str] = ()
    seen: Sequence[str] = ()
    include_seen: bool = False
    placement: str = ""
    timestamp: int | None = None
    diversity: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEffect:
    """What a business rule did to an item of an answer.

    Attributes:
        rule: Its name.
        kind: ``boost``, ``bury``, ``freshness`` or ``pin``.
        before, after: The score; None for a pin.
    """

    rule: str
    kind: str
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendedItem:
    """One item of an answer.

    Attributes:
        item_id: Its id.
        position: Its place, from 0.
        title, language: Of the item.
        score: After rules, higher is better.
        heads: Predictions of the model's ranking heads, such as ``probability_like``.
        propensity: Probability with which it was shown in this place.
        source: ``model``, ``fresh``, ``popular``, ``pinned`` or ``explored``.
        rules: What business rules did to it.
    """

    item_id: str
    position: int
    title: str
    language: str
    score: float
    heads: Mapping[str, float] = field(default_factory=dict)
    propensity: float = 1.0
    source: str = "model"
    rules: Sequence[RuleEffect] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationResponse:
    """An answer.

    Attributes:
        recommendation_id: Names it in later events.
        model_version: Of the model that answered; 0: none did.
        variant: Of an experiment; empty without one.
        degraded: Whether the store's popular items stand in for the model's.
        items: Best first.
        removed: Rule -> items that it kept out.
        diversity: Similarity of the list before and after diversity re-ranking, and its NDCG; empty without it.
    """

    recommendation_id: str
    model_version: int
    variant: str
    degraded: bool
    items: Sequence[RecommendedItem]
    removed: Mapping[str, int] = field(default_factory=dict)
    diversity: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredItem:
    """An item of `Recommender.rank`.

    Attributes:
        item_id: As given.
        score: None where neither the model nor the store knows the item.
        heads: As of `RecommendedItem`.
    """

    item_id: str
    score: float | None
    heads: Mapping[str, float] = field(default_factory=dict)


class Recommender(Protocol):
    """Answers requests; all methods raise `serving.service.errors.ServiceError`."""

    async def recommend(self, request: RecommendationRequest) -> RecommendationResponse:
        """The best items for a request, with text or without."""
        ...

    async def similar(self, item_id: str, request: RecommendationRequest) -> RecommendationResponse:
        """Items that go with an item, whoever asks; of the request only filters, language and placement count."""
        ...

    async def preview(self, request: RecommendationRequest, rules: str) -> RecommendationResponse:
        """The answer that other rules would give, by the served version; it is not written down.

        Args:
            request: As of `recommend`.
            rules: In YAML; valid.
        """
        ...

    async def rank(self, request: RecommendationRequest, item_ids: Sequence[str]) -> Sequence[ScoredItem]:
        """Scores of given items, in their order."""
        ...

    def heard(self, events: Sequence[Event]) -> None:
        """Lets new events count at once; called in the event loop when they are durable, before they are acknowledged.

        Each event comes once to the replica that stored it; other replicas read the store's feed. After a session was
        linked to a user, a stored event ``login`` with both ids lets all replicas read the user's history again.
        """
        ...

    def items_changed(self, changes: Sequence[ItemChange]) -> None:
        """Lets stored or deleted items count at once; called in the event loop, in any order of revisions."""
        ...

    def user_changed(self, user: User) -> None:
        """Lets a stored profile count at once; called in the event loop."""
        ...

    def user_deleted(self, user_id: str) -> None:
        """Forgets a person at once who has been deleted from the store; called in the event loop."""
        ...

    async def rules_changed(self) -> None:
        """Lets stored rules count at once."""
        ...

    @property
    def ready(self) -> bool:
        """Whether a model server answers."""
        ...

    @property
    def model_version(self) -> int:
        """The served version; 0: none."""
        ...

    @property
    def waiting_items(self) -> int:
        """New or changed items that are not yet in answers."""
        ...
