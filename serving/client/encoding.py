"""Queries -> the batch-major input tensors of the model's signatures, and output tensors -> rows."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client.errors import BadRequestError
from serving.client.types import Query, RankedItem, Recommendation
from serving.tensors import string_array

Arrays = dict[str, npt.NDArray[Any]]


def inputs_of(signature: str, queries: Sequence[Query], **others: npt.NDArray[Any]) -> Arrays:
    """The inputs of a signature; B = number of queries.

    Args:
        signature: Its key.
        queries: What is asked.
        others: Inputs that are no part of a query.

    Raises:
        BadRequestError: a value has the wrong type or k is not positive; the message names it.
    """
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
    return np.array([_VALUES[name](value) for value in values], dtype=spec.dtype)


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


def _seconds(value: int | datetime | None) -> int:
    if value is None:
        return 0
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadRequestError(f"timestamp {value} has no time zone; give an aware datetime or unix seconds")
        return int(value.timestamp())
    return _integer("timestamp", value, -(2**63), 2**63 - 1)


def _k(value: object) -> int:
    return _integer("k", value, 1, 2**31 - 1)


def _integer(name: str, value: object, low: int, high: int) -> int:
    index: Callable[[], int] | None = getattr(value, "__index__", None)
    if index is None or isinstance(value, bool):
        raise BadRequestError(f"{name} must be int, got {type(value).__name__} {value!r}")
    number = index()
    if not low <= number <= high:
        raise BadRequestError(f"{name} must be between {low} and {high}, got {number}")
    return number


# How values that are no texts are checked and converted, by input.
_VALUES: dict[str, Callable[[Any], int | bool]] = {"timestamp": _seconds, "k": _k, "include_seen": bool}
