"""Requests and results of the client, as values and as tensors of the model's signatures.

A new input in ``serving.contract`` needs only a field of ``Query`` in this package.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client.errors import BadRequestError
from serving.tensors import string_array

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query for recommendations; every part is optional.

    Attributes:
        user_id: id of a user, known to the model or not.
        history: item ids the user has seen, newest last.
        query: free text in any language.
        language: the user's language, BCP 47.
        country: the user's country.
        timestamp: time of the request: unix seconds or an aware ``datetime``.
        k: number of items to return, at least 1.
        exclude: ids of items to leave out.
        languages: allowed item languages; empty allows all.
        categories: categories of which an item needs at least one; empty allows all.
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


def inputs_of(signature: str, queries: Sequence[Query], **others: npt.NDArray[Any]) -> Arrays:
    """The inputs of a signature; B = number of queries.

    Args:
        signature: Its name.
        queries: The queries.
        others: Inputs that are not part of a query.

    Raises:
        BadRequestError: a value has the wrong type or is out of range; the message names it.
    """
    for query in queries:
        if not isinstance(query, Query):
            raise BadRequestError(f"a query must be a Query, such as Query(user_id=...), got {query!r}")
    arrays = dict(others)
    for name, spec in contract.SIGNATURES[signature].items():
        if name not in others:
            arrays[name] = _column(name, spec, [getattr(query, name) for query in queries])
    return arrays


def _column(name: str, spec: contract.Input, values: Sequence[Any]) -> npt.NDArray[Any]:
    if spec.rank == 2:
        return string_matrix(name, values, newest_last=spec.newest_last)
    if spec.dtype == "string":
        return string_array([_bytes(name, value) for value in values])
    if spec.dtype == "bool":
        return np.array([bool(value) for value in values])
    return np.array([_integer(name, spec, value) for value in values], dtype=spec.dtype)


def string_matrix(name: str, rows: Sequence[Sequence[str]], newest_last: bool = False) -> npt.NDArray[Any]:
    """Strings of shape (B, longest row), padded with ''; padding comes first when the newest must be last."""
    encoded: list[list[bytes]] = []
    for row in rows:
        if isinstance(row, str | bytes) or not isinstance(row, Sequence):
            raise BadRequestError(f"{name} must be a sequence of str, got {type(row).__name__} {row!r}")
        encoded.append([_bytes(name, value) for value in row])
    width = max(map(len, encoded), default=0)
    matrix = np.full((len(encoded), width), b"", dtype=object)
    for target, values in zip(matrix, encoded, strict=True):
        if values:
            target[slice(width - len(values), None) if newest_last else slice(len(values))] = values
    return matrix


def recommendations(outputs: Mapping[str, npt.NDArray[Any]]) -> list[list[Recommendation]]:
    """Rows of results without their padding; further (B, K) float outputs become heads."""
    ids, scores = outputs[contract.ITEM_IDS], outputs[contract.SCORES]
    languages, titles = outputs.get(contract.LANGUAGES), outputs.get(contract.TITLES)
    heads = _heads(outputs, ids.shape)
    return [
        [
            Recommendation(
                item_id=_text(ids[row, column]),
                score=float(scores[row, column]),
                language="" if languages is None else _text(languages[row, column]),
                title="" if titles is None else _text(titles[row, column]),
                heads={name: float(values[row, column]) for name, values in heads.items()},
            )
            for column in range(ids.shape[1])
            if ids[row, column]
        ]
        for row in range(len(ids))
    ]


def ranked(outputs: Mapping[str, npt.NDArray[Any]], items: Sequence[Sequence[str]]) -> list[list[RankedItem]]:
    """Rows of scored items, in the order asked for."""
    scores = outputs[contract.SCORES]
    heads = _heads(outputs, scores.shape)
    result: list[list[RankedItem]] = []
    for row, wanted in enumerate(items):
        ranking: list[RankedItem] = []
        for column, item_id in enumerate(wanted):
            score = float(scores[row, column])
            # Earlier exports have -inf.
            if score <= contract.LOWEST_SCORE:
                ranking.append(RankedItem(item_id, None))
            else:
                ranking.append(
                    RankedItem(item_id, score, {n: float(values[row, column]) for n, values in heads.items()})
                )
        result.append(ranking)
    return result


def _heads(outputs: Mapping[str, npt.NDArray[Any]], shape: tuple[int, ...]) -> Arrays:
    return {
        name: values
        for name, values in sorted(outputs.items())
        if name != contract.SCORES and values.dtype.kind == "f" and values.shape == shape
    }


def _bytes(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise BadRequestError(f"{name} must be str, got {type(value).__name__} {value!r}; ids are strings everywhere")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise BadRequestError(f"{name} {value!r} is not valid Unicode ({error.reason})") from None


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _integer(name: str, spec: contract.Input, value: object) -> int:
    if spec.is_time:
        value = _unix_seconds(name, spec, value)
    index: Callable[[], int] | None = getattr(value, "__index__", None)
    if index is None or isinstance(value, bool):
        raise BadRequestError(f"{name} must be int, got {type(value).__name__} {value!r}")
    number = index()
    limits = np.iinfo(spec.dtype)
    low = limits.min if spec.minimum is None else spec.minimum
    if not low <= number <= limits.max:
        raise BadRequestError(f"{name} must be between {low} and {limits.max}, got {number}")
    return number


def _unix_seconds(name: str, spec: contract.Input, value: object) -> object:
    if value is None:
        return spec.default
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise BadRequestError(f"{name} {value} has no time zone; give an aware datetime or unix seconds")
    return int(value.timestamp())
