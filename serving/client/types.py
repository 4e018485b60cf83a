"""The client's input and output types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query for recommendations; every part is optional.

    Attributes:
        user_id: a user that the model may know.
        history: item ids the user has seen, newest last.
        query: free text in any language.
        language: the user's language, BCP 47.
        country: the user's country.
        timestamp: the time to recommend for: unix seconds or an aware ``datetime``.
        k: how many items, at least 1.
        exclude: item ids that must not appear.
        languages: allowed item languages; empty allows all.
        categories: items must have one of these; empty allows all.
        include_seen: also return items that the user has seen.
    """

    user_id: str = ""
    history: Sequence[str] = ()
    query: str = ""
    language: str = ""
    country: str = ""
    timestamp: int | datetime | None = None
    k: int = 10
    exclude: Sequence[str] = ()
    languages: Sequence[str] = ()
    categories: Sequence[str] = ()
    include_seen: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item.

    Attributes:
        item_id: its id.
        score: the sort key of the list, higher is better.
        language: the item's language, '' when unknown.
        title: its title; '' from ``retrieve``.
        heads: the ranking heads' outputs by name, such as ``probability_like``; empty from ``retrieve``.
    """

    item_id: str
    score: float
    language: str = ""
    title: str = ""
    heads: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One of the ranked items.

    Attributes:
        item_id: as given.
        score: None when the model doesn't know the item.
        heads: the ranking heads' outputs by name; empty when the model doesn't know the item.
    """

    item_id: str
    score: float | None
    heads: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """The state of one version of the model.

    Attributes:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error_code: OK, or the name of its failure's status code.
        error_message: what failed.
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a signature: dtype name (``string``, ``int64``) and shape, -1 where free."""

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class SignatureSpec:
    """The inputs and outputs of a signature, by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The signatures of the served version, by name."""

    name: str
    version: int
    signatures: Mapping[str, SignatureSpec]
