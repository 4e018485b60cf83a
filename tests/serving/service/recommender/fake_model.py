"""A model server in NumPy: it takes the place of the client, so that `ModelServer` is tested too."""

import asyncio
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client import AsyncRecommenderClient
from serving.client.errors import BadRequestError, DeadlineExceededError, UnreachableError
from serving.client.types import Arrays, ModelMetadata, SignatureSpec, TensorSpec, VersionStatus
from serving.service.recommender.model import ModelServer
from serving.service.types import Item

WIDTH = 6
CANDIDATES = 200
Floats = npt.NDArray[np.float32]


@functools.cache
def vector_of(text: str, version: int = 1, width: int = WIDTH) -> Floats:
    """What the model makes of a text; all have one length, so that a title's own item fits it best."""
    rng = np.random.default_rng(zlib.crc32(f"{version} {text}".encode()))
    direction = rng.normal(size=width)
    return (3.0 * direction / np.linalg.norm(direction)).astype(np.float32)


def score_of(product: float) -> float:
    """A final score; no straight line, but it keeps the order."""
    return float(np.tanh(product / 8.0))


@dataclass
class Version:
    """A version of the model: its index, in the order of popularity."""

    number: int
    items: Sequence[Item] = ()
    width: int = WIDTH
    takes_items: bool = True
    salt: int | None = None

    def vector(self, text: str) -> Floats:
        return vector_of(text, self.number if self.salt is None else self.salt, self.width)


def _fits(item: Item, languages: Sequence[str], categories: Sequence[str]) -> bool:
    parts = item.language.lower().split("-")
    ranges = {"-".join(parts[:length]) for length in range(1, len(parts) + 1)}
    by_language = not languages or any(each.lower() in ranges for each in languages)
    return by_language and (
        not categories or bool({c.lower() for c in categories} & {c.lower() for c in item.categories})
    )


def _texts(array: npt.NDArray[Any]) -> list[str]:
    return [raw.decode() for raw in array if raw]


@dataclass
class FakeClient:
    """What `AsyncRecommenderClient` does, as far as `ModelServer` calls it.

    Attributes:
        served: The version that answers.
        is_down: Nobody listens.
        hangs: It takes requests and answers none.
        refused: Titles that `embed_items` refuses.
        calls: Signatures that were called.
        embedded: Ids of the items that were encoded.
        gate: If set, `embed_items` waits for it.
        reached: Set when `embed_items` waits.
        after: Signature -> the version that is served once it has been called.
        hooks: Signature -> what is done before its answer is returned.
        excluded: Numbers of exclusions of the requests.
        languages: Of the requests.
        most_k: The export's limit of k.
        described: Times that it was asked for its signatures.
    """

    served: Version
    is_down: bool = False
    hangs: bool = False
    refused: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    after: Mapping[str, Version] = field(default_factory=dict)
    hooks: dict[str, Callable[[], None]] = field(default_factory=dict)
    excluded: list[int] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    most_k: int = 1_000
    described: int = 0

    def server(self) -> ModelServer:
        return ModelServer(cast(AsyncRecommenderClient, self))

    async def close(self) -> None:
        pass

    async def status(self, *, timeout: float) -> list[VersionStatus]:
        await self._meet(timeout)
        others = [VersionStatus(self.served.number + 1, "LOADING"), VersionStatus(self.served.number - 1, "END")]
        return [*others, VersionStatus(self.served.number, "AVAILABLE")]

    async def metadata(self, *, timeout: float) -> ModelMetadata:
        self.described += 1
        await self._meet(timeout)
        fresh = [contract.EMBED_ITEMS, contract.RECOMMEND_FOR_MERGE, contract.SCORE_EMBEDDINGS]
        names = [contract.DEFAULT, contract.RANK, *(fresh if self.served.takes_items else [])]
        outputs = {
            name: TensorSpec("float32", None) for name in (contract.SCORES, contract.ITEM_IDS, "probability_like")
        }
        inputs = {name: TensorSpec("string", None) for name in contract.ITEM_INPUTS}
        return ModelMetadata("m", self.served.number, {name: SignatureSpec(inputs, outputs) for name in names})

    async def predict_with_version(
        self,
        signature: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        output_filter: Sequence[str] = (),
        *,
        timeout: float,
    ) -> tuple[int, Arrays]:
        self.calls.append(signature)
        await self._meet(timeout)
        if signature == contract.EMBED_ITEMS and self.gate is not None and inputs["item_id"][0]:
            self.reached.set()
            await self.gate.wait()
        version = self.served
        known = (contract.DEFAULT, contract.RANK)
        if signature not in known and not version.takes_items:
            raise BadRequestError("no such signature", grpc.StatusCode.INVALID_ARGUMENT)
        answers = {
            contract.DEFAULT: self._recommend,
            contract.RECOMMEND_FOR_MERGE: self._recommend,
            contract.RANK: self._rank,
            contract.SCORE_EMBEDDINGS: self._score,
            contract.EMBED_ITEMS: self._embed,
        }
        outputs = answers[signature](version, inputs)
        self.hooks.get(signature, lambda: None)()
        self.served = self.after.get(signature, self.served)
        return version.number, {name: outputs[name] for name in output_filter or outputs}

    async def _meet(self, timeout: float) -> None:
        if self.hangs:
            await asyncio.sleep(timeout)
            raise DeadlineExceededError("too late", grpc.StatusCode.DEADLINE_EXCEEDED)
        if self.is_down:
            raise UnreachableError("nobody there", grpc.StatusCode.UNAVAILABLE)
        await asyncio.sleep(0)

    def _query(self, version: Version, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[Floats, bool]:
        history = [raw.decode() for raw in inputs["history"][0]]
        given = inputs.get("history_embeddings", np.zeros((1, 0, 0), np.float32))[0]
        if len(given) not in (0, len(history)) or (len(given) and given.shape[1] != version.width):
            raise BadRequestError("history_embeddings do not fit", grpc.StatusCode.INVALID_ARGUMENT)
        titles = {item.item_id: item.title for item in version.items}
        vectors = []
        for place, item_id in enumerate(history):
            if len(given) and given[place].any():
                vectors.append(given[place])
            elif item_id in titles:
                vectors.append(version.vector(titles[item_id]))
        text = inputs["query"][0].decode().strip()
        vectors += [version.vector(text)] if text else []
        return (np.mean(vectors, axis=0) if vectors else np.zeros(version.width, np.float32)), bool(vectors)

    def _recommend(self, version: Version, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        query, informed = self._query(version, inputs)
        k = int(inputs["k"][0])
        if not 1 <= k <= self.most_k or inputs["exclude"].shape[1] > 10_000:
            raise BadRequestError("over a limit", grpc.StatusCode.INVALID_ARGUMENT)
        self.excluded.append(inputs["exclude"].shape[1])
        self.languages.append(inputs["language"][0].decode())
        barred = set(_texts(inputs["exclude"][0]))
        barred |= set() if inputs["include_seen"][0] else set(_texts(inputs["history"][0]))
        languages, categories = _texts(inputs["languages"][0]), _texts(inputs["categories"][0])
        products = [
            (float(query @ version.vector(item.title)) if informed else 1.0 / (2 + place), item)
            for place, item in enumerate(version.items)
            if item.item_id not in barred and _fits(item, languages, categories)
        ]
        products.sort(key=lambda pair: -pair[0])
        count = min(max(k, CANDIDATES), len(version.items))
        cutoff = products[count - 1][0] if len(products) >= count == max(k, CANDIDATES) else contract.LOWEST_SCORE
        best = products[: min(k, count)]
        missing = min(k, count) - len(best)
        return {
            contract.ITEM_IDS: np.array([[item.item_id.encode() for _, item in best] + [b""] * missing], object),
            contract.TITLES: np.array([[item.title.encode() for _, item in best] + [b""] * missing], object),
            contract.LANGUAGES: np.array([[item.language.encode() for _, item in best] + [b""] * missing], object),
            contract.SCORES: np.array(
                [[score_of(p) if informed else p for p, _ in best] + [contract.LOWEST_SCORE] * missing], np.float32
            ),
            "probability_like": np.array([[p / 2 for p, _ in best] + [0.0] * missing], np.float32),
            contract.EMBEDDINGS: np.array(
                [[version.vector(item.title) for _, item in best] + [np.zeros(version.width)] * missing], np.float32
            ).reshape(1, min(k, count), version.width),
            contract.QUERY_EMBEDDINGS: query[np.newaxis],
            contract.CUTOFFS: np.array([cutoff], np.float32),
            contract.INFORMED: np.array([informed]),
        }

    def _rank(self, version: Version, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        query, _ = self._query(version, inputs)
        titles = {item.item_id: item.title for item in version.items}
        products = [
            float(query @ version.vector(titles[item_id])) if (item_id := raw.decode()) in titles else None
            for raw in inputs[contract.ITEM_IDS][0]
        ]
        return {
            contract.ITEM_IDS: inputs[contract.ITEM_IDS],
            contract.SCORES: np.array(
                [[contract.LOWEST_SCORE if p is None else score_of(p) for p in products]], np.float32
            ),
            "probability_like": np.array([[0.0 if p is None else p / 2 for p in products]], np.float32),
        }

    def _score(self, version: Version, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        if inputs["embeddings"].shape[2] != version.width:
            raise BadRequestError("vectors of another width", grpc.StatusCode.INVALID_ARGUMENT)
        products = inputs["embeddings"][0] @ inputs["query_embeddings"][0]
        scores = np.array([[score_of(float(p)) for p in products]], np.float32)
        return {contract.SCORES: scores, "probability_like": (products / 2)[np.newaxis].astype(np.float32)}

    def _embed(self, version: Version, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        titles = [raw.decode() for raw in inputs["title"]]
        if self.refused.intersection(titles):
            raise BadRequestError("not this one", grpc.StatusCode.INVALID_ARGUMENT)
        ids = [raw.decode() for raw in inputs["item_id"]]
        self.embedded += [item_id for item_id in ids if item_id]
        sealed = {item.item_id: item.title for item in version.items}
        return {
            contract.EMBEDDINGS: np.stack([version.vector(title) for title in titles]),
            contract.SEALED: np.array([sealed.get(i) == t for i, t in zip(ids, titles, strict=True)]),
        }
