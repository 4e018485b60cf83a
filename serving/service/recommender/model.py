"""The model server as the service sees it: signatures by name, and the version of each answer."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client import AsyncRecommenderClient, Query
from serving.client.errors import (
    DeadlineExceededError,
    ModelNotFoundError,
    ServerFaultError,
    ServingError,
    UnreachableError,
)
from serving.client.types import Arrays, ModelMetadata, inputs_of, string_matrix
from serving.service.types import Item
from serving.tensors import string_array

# After a failure to reach the server it is left alone for so long, in seconds.
_PAUSE: Final = 0.5
# A server that can't tell its version within this time answers no requests either.
_PATIENCE: Final = 0.5
_AVAILABLE: Final = "AVAILABLE"
# Columns of `contract.ITEM_INPUTS` and those named by `contract.column_input` are float32 of these ranks.
_NUMBER, _EMBEDDING = "number_", "embedding_"
_LIST: Final = (contract.ITEM_IDS, contract.SCORES, contract.TITLES, contract.LANGUAGES)
_MERGING: Final = (contract.QUERY_EMBEDDINGS, contract.CUTOFFS, contract.INFORMED)
_TEXT: Final = (
    contract.NAMED,
    contract.TEXT_EMBEDDINGS,
    contract.LABEL_SIMILARITIES,
    contract.GRAM_BUCKETS,
    contract.GRAM_WEIGHTS,
    contract.LEXICAL_WEIGHTS,
)
# What is read of each signature's answers if nothing is chosen.
_OUTPUTS: Final = {
    contract.DEFAULT: (contract.ITEM_IDS, contract.SCORES),
    contract.RANK: (contract.ITEM_IDS, contract.SCORES),
    contract.SCORE_EMBEDDINGS: (contract.SCORES,),
    contract.EMBED_ITEMS: (contract.EMBEDDINGS, contract.SEALED),
}


@dataclass(frozen=True, slots=True)
class Signatures:
    """What a version of the model can do.

    Attributes:
        version: Its number.
        heads: Outputs of ranking heads.
        numbers: Inputs of `embed_items` for numeric columns.
        embeddings: Inputs of `embed_items` for embedding columns -> width.
        takes_items: Whether it has the signatures for fresh items.
        searches_text: Whether it says how text queries are compared with fresh items.
    """

    version: int = 0
    heads: frozenset[str] = frozenset()
    numbers: Sequence[str] = ()
    embeddings: Mapping[str, int] = field(default_factory=dict)
    takes_items: bool = False
    searches_text: bool = False

    @classmethod
    def of(cls, metadata: ModelMetadata) -> "Signatures":
        """From the server's description."""
        found = metadata.signatures
        ranking = found.get(contract.RANK)
        items, merging = found.get(contract.EMBED_ITEMS), found.get(contract.RECOMMEND_FOR_MERGE)
        columns = {} if items is None else items.inputs
        return cls(
            version=metadata.version,
            heads=frozenset(ranking.outputs if ranking else ()) - {contract.ITEM_IDS, contract.SCORES},
            numbers=[name for name in columns if name.startswith(_NUMBER)],
            embeddings={
                name: spec.shape[1] if spec.shape else 0
                for name, spec in columns.items()
                if name.startswith(_EMBEDDING)
            },
            takes_items=items is not None and merging is not None and contract.SCORE_EMBEDDINGS in found,
            searches_text=merging is not None and merging.outputs.keys() >= set(_TEXT),
        )


@dataclass(frozen=True, slots=True)
class Versioned:
    """An answer and the version that gave it."""

    version: int
    outputs: Arrays


class ModelServer:
    """A model of a TensorFlow Serving server.

    Args:
        client: Connected to it.

    Attributes:
        swapped: Set when a version answers that is not the one of `signatures`; `refresh` clears it.
    """

    def __init__(self, client: AsyncRecommenderClient) -> None:
        self._client = client
        self._signatures = Signatures()
        self._paused_until = -float("inf")
        self._was_lost = False
        self.swapped = asyncio.Event()

    @property
    def signatures(self) -> Signatures:
        """Those of the served version, as of the last `refresh`.

        It is another object whenever another model may be there: after a change of version, and when the server was
        away, since a new one may serve another model under the same number.
        """
        return self._signatures

    @property
    def reachable(self) -> bool:
        """Whether it has answered, and not failed just now."""
        return self._signatures.version > 0 and time.monotonic() >= self._paused_until

    async def refresh(self, timeout: float) -> None:
        """Asks for the served version.

        Raises:
            ServingError: the server does not answer. If it can't even say this it is left alone until it does.
        """
        self.swapped.clear()
        try:
            if self._signatures.version and not self._was_lost:
                # The signatures are several times as large as the state of all versions.
                states = await self._client.status(timeout=timeout)
                available = [each.version for each in states if each.state == _AVAILABLE]
                if available and max(available) == self._signatures.version:
                    self._paused_until = -float("inf")
                    return
            metadata = await self._client.metadata(timeout=timeout)
        except ServingError as error:
            late = isinstance(error, DeadlineExceededError) and timeout >= _PATIENCE
            if late or isinstance(error, UnreachableError | ModelNotFoundError):
                self._lose(float("inf"))
            raise
        self._paused_until = -float("inf")
        if self._was_lost or metadata.version != self._signatures.version:
            self._was_lost = False
            self._signatures = Signatures.of(metadata)

    @property
    def client(self) -> AsyncRecommenderClient:
        """By which it asks."""
        return self._client

    def use(self, client: AsyncRecommenderClient) -> None:
        """Asks by another client of the same model from now on; the next `refresh` finds out which version that is.

        The client of before is not closed: it may still be waiting for answers.
        """
        self._client = client

    async def close(self) -> None:
        """Closes the connection."""
        await self._client.close()

    async def recommend(
        self,
        query: Query,
        history_embeddings: npt.NDArray[np.float32] | None,
        *,
        timeout: float,
        merges: bool = True,
        places: bool = False,
    ) -> Versioned:
        """`recommend_for_merge` where there is one, else the default signature; without the dimension of the batch.

        Args:
            query: The request.
            history_embeddings: Float32 [H, D] for the entries of its history, zeros for those of the index.
            timeout: Seconds.
            merges: Whether to ask for what is compared with fresh items.
            places: Whether to ask for where the items are in the model's space.
        """
        if not self._signatures.takes_items:
            answer = await self._predict(contract.DEFAULT, inputs_of(contract.DEFAULT, [query]), timeout)
        else:
            vectors = np.zeros((1, 0, 0), np.float32) if history_embeddings is None else history_embeddings[np.newaxis]
            inputs = inputs_of(contract.RECOMMEND_FOR_MERGE, [query], history_embeddings=vectors)
            # Each output takes time in the server, on the way and here.
            wanted = [*_LIST, *sorted(self._signatures.heads)]
            if merges:
                wanted += _MERGING
                if query.query.strip() and self._signatures.searches_text:
                    wanted += _TEXT
            if places:
                wanted.append(contract.EMBEDDINGS)
            answer = await self._predict(contract.RECOMMEND_FOR_MERGE, inputs, timeout, wanted)
        return Versioned(answer.version, {name: value[0] for name, value in answer.outputs.items()})

    async def rank(self, query: Query, item_ids: Sequence[str], *, timeout: float) -> Versioned:
        """`rank` of one request."""
        items = string_matrix(contract.ITEM_IDS, [item_ids])
        answer = await self._predict(contract.RANK, inputs_of(contract.RANK, [query], item_ids=items), timeout)
        return Versioned(answer.version, {name: value[0] for name, value in answer.outputs.items()})

    async def score(
        self,
        query: npt.NDArray[np.float32],
        vectors: npt.NDArray[np.float32],
        fits: npt.NDArray[np.float32] | None,
        *,
        timeout: float,
    ) -> Versioned:
        """`score_embeddings` of one request: query vector [D], items' [C, D] and their fit [C] to its text, if any."""
        inputs: Arrays = {
            "query_embeddings": query[np.newaxis],
            "embeddings": vectors[np.newaxis],
            "fits": np.zeros((1, len(vectors)), np.float32) if fits is None else fits[np.newaxis],
            "typed": np.array([fits is not None]),
        }
        answer = await self._predict(contract.SCORE_EMBEDDINGS, inputs, timeout)
        return Versioned(answer.version, {name: value[0] for name, value in answer.outputs.items()})

    async def embed(self, items: Sequence[Item], *, timeout: float) -> Versioned:
        """`embed_items`."""
        inputs: Arrays = {
            "item_id": _strings([item.item_id for item in items]),
            "title": _strings([item.title for item in items]),
            "description": _strings([item.description for item in items]),
            "language": _strings([item.language for item in items]),
            "categories": string_matrix("categories", [list(dict.fromkeys(item.categories)) for item in items]),
        }
        signatures = self._signatures
        for name in signatures.numbers:
            values = [_by_input(item.numbers, "number").get(name, np.nan) for item in items]
            inputs[name] = np.array(values, np.float32)
        for name, width in signatures.embeddings.items():
            rows = [_by_input(item.embeddings, "embedding").get(name) for item in items]
            inputs[name] = np.array(
                [row if row is not None and len(row) == width else [0.0] * width for row in rows], np.float32
            ).reshape(len(items), width)
        return await self._predict(contract.EMBED_ITEMS, inputs, timeout)

    async def _predict(self, signature: str, inputs: Arrays, timeout: float, wanted: Sequence[str] = ()) -> Versioned:
        try:
            version, outputs = await self._client.predict_with_version(signature, inputs, wanted, timeout=timeout)
        except (UnreachableError, ModelNotFoundError):
            self._lose(_PAUSE)
            raise
        # REST does not tell the version.
        version = version or self._signatures.version
        if version != self._signatures.version:
            self.swapped.set()
        missing = [name for name in wanted or _OUTPUTS[signature] if name not in outputs]
        if missing:
            raise ServerFaultError(f"the model's signature {signature} has no output {', '.join(missing)}")
        return Versioned(version, outputs)

    def _lose(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        self._was_lost = True


def _by_input(columns: Mapping[str, Any], kind: Any) -> dict[str, Any]:  # noqa: ANN401  numbers or vectors
    return {contract.column_input(kind, name): value for name, value in columns.items()}


def _strings(values: Sequence[str]) -> npt.NDArray[Any]:
    return string_array([value.encode() for value in values])
