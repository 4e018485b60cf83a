"""Forms of requests for recommendations."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from serving.service.api.identifiers import Id, OptionalId
from serving.service.recommendation import RecommendationRequest

_MOST_ITEMS = 1_000
_QUERY_CHARACTERS = 2_048
# As many bytes of rules can be stored.
_RULES_CHARACTERS = 1_048_576
# Each asks the model server twice.
_MOST_PREVIEWS = 10

Language = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9-]*$", description="BCP 47", examples=["ja"])]


class Form(BaseModel):
    """A body without unknown fields, whose numbers are numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class FilterForm(Form):
    """Which items may be in the answer."""

    session_id: OptionalId = Field("", description="The visit.", examples=["visit-2026-11-30-17"])
    user_id: OptionalId = Field("", description="Who asks; empty for somebody not logged in.", examples=["大輔"])
    language: Language = Field("", description="Of the user, BCP 47; empty: that of the profile.", examples=["ja"])
    country: str = Field("", max_length=2, pattern="^([A-Z]{2})?$", description="ISO 3166-1 alpha-2", examples=["JP"])
    k: int = Field(10, ge=1, le=_MOST_ITEMS, description="Number of items.")
    languages: list[Language] = Field([], max_length=64, description="Allowed languages of items; empty: all.")
    categories: list[Annotated[str, Field(max_length=512)]] = Field(
        [], max_length=256, description="Items must have one of these; empty: all.", examples=[["Kitchen"]]
    )
    exclude: list[Id] = Field([], max_length=10_000, description="Items that must not appear.")
    seen: list[Id] = Field(
        [],
        max_length=_MOST_ITEMS,
        description="Items that were just shown or seen, newest last. They count as history and do not appear.",
    )
    include_seen: bool = Field(False, description="Whether items of the history may appear.")
    placement: OptionalId = Field("", description="Where in the application.", examples=["home"])
    timestamp: int | None = Field(
        None, ge=0, le=253_402_300_799, description="Unix seconds to recommend for; null: now.", examples=[1796040000]
    )
    diversity: float = Field(0.0, ge=0.0, le=1.0, description="Strength of diversity re-ranking.")


class RecommendationForm(FilterForm):
    """A request for recommendations; every part is optional."""

    query: str = Field("", max_length=_QUERY_CHARACTERS, description="Free text in any language.")


class RulesPreviewForm(Form):
    """Rules that are to be tried on requests."""

    rules: str = Field(..., max_length=_RULES_CHARACTERS, description="In YAML.", examples=["rules: []"])
    requests: list[RecommendationForm] = Field(..., min_length=1, max_length=_MOST_PREVIEWS, description="On which.")


class SearchForm(FilterForm):
    """A search."""

    query: str = Field(
        ...,
        min_length=1,
        max_length=_QUERY_CHARACTERS,
        description="Free text in any language.",
        examples=["가벼운 등산 배낭"],
    )


class SimilarForm(FilterForm):
    """A request for items that go with one."""

    item_id: Id = Field(..., description="The item.", examples=["1003"])


class RankForm(RecommendationForm):
    """A request for scores of given items."""

    item_ids: list[Id] = Field(..., min_length=1, max_length=_MOST_ITEMS, description="The items.", examples=[["1003"]])


_FIELDS = tuple(RecommendationRequest.__dataclass_fields__)


def request_of(form: FilterForm, user_id: str, session_id: str) -> RecommendationRequest:
    """The request of a body, for the person for whom it may be."""
    values = {name: value for name, value in form.__dict__.items() if name in _FIELDS}
    return RecommendationRequest(**(values | {"user_id": user_id, "session_id": session_id}))
