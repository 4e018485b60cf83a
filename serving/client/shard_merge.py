"""How the answers of shards, each a model over a share of the items, become the answer of one model over all of them.

`serving.client.sharded` asks. Every shard is asked three times: what it knows of the requests (the vectors of the
history's items, and whether the text names an item), for its candidates, and for the final scores of those of its
candidates that are among the best of all. Scores are compared as one model compares them: equal ones come in the order
of the candidates, and these in that of the catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client.errors import ServerFaultError
from serving.client.types import Arrays, Query, Recommendation, inputs_of, recommendations

# Shard, by its place among the addresses -> its answer; a shard that is missing has none.
Answers = Mapping[int, Arrays]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The candidates of one request that are among the best of all.

    Attributes:
        shards: Int [C], which shard holds each.
        item_ids: Object [C], bytes, in the order before ranking.
        scores: Float32 [C], before ranking.
    """

    shards: npt.NDArray[np.integer]
    item_ids: npt.NDArray[Any]
    scores: npt.NDArray[np.float32]


def check_shards(answers: Answers, addresses: Sequence[str], expected: str | None = None) -> str:
    """Checks that answers are those of different shards of one export.

    Args:
        answers: Of any signature for shards.
        addresses: Of all shards, for messages.
        expected: The export of earlier answers to the same requests; None: these are the first.

    Returns:
        The export's id.

    Raises:
        ServerFaultError: They don't belong together; the message says which, and the remedy.
    """
    about: dict[int, tuple[str, int, int]] = {}
    for place, outputs in answers.items():
        missing = {contract.EXPORT_ID, contract.SHARD, contract.SHARDS} - outputs.keys()
        if missing:
            raise ServerFaultError(f"{addresses[place]} does not say which shard it is: it lacks {sorted(missing)}")
        export = outputs[contract.EXPORT_ID][0].decode(errors="replace")
        about[place] = export, int(outputs[contract.SHARD][0]), int(outputs[contract.SHARDS][0])
    exports = {export for export, _, _ in about.values()} | ({expected} if expected is not None else set())
    if len(exports) > 1:
        said = ", ".join(f"{addresses[place]}: {export}" for place, (export, _, _) in about.items())
        raise ServerFaultError(
            f"the shards serve different exports ({said}). While a new version is rolled out, keep the one before "
            "loaded and name it (`version`); otherwise export all shards again in one command"
        )
    if any(count != len(addresses) for _, _, count in about.values()):
        counts = sorted({count for _, _, count in about.values()})
        raise ServerFaultError(
            f"the model was exported in {counts[0]} shards, but {len(addresses)} addresses are given. Give one address "
            "for each shard"
        )
    holders: dict[int, int] = {}
    for place, (_, shard, _) in about.items():
        if shard in holders:
            raise ServerFaultError(
                f"{addresses[holders[shard]]} and {addresses[place]} both serve shard {shard}. Give one address for "
                "each shard; replicas of a shard are one address that resolves to several (dns:, ipv4:)"
            )
        holders[shard] = place
    return exports.pop()


def context_inputs(queries: Sequence[Query]) -> Arrays:
    """What each shard is asked first."""
    return inputs_of(contract.SHARD_CONTEXT, queries)


def shared_inputs(queries: Sequence[Query], answers: Answers) -> Arrays:
    """The requests with all that any shard knows of them: inputs of `RETRIEVE` and, with items, of `RANK`.

    A history's vectors are those of the request if any of its items is known, else those of the stored history, as in
    a model over all items. Exactly one shard has a vector for a place of the stored history, and the others zeros, so
    their sum is exact.
    """
    inputs = inputs_of(contract.RETRIEVE, queries)
    outputs = list(answers.values())
    # Turned round, as a history ends with the newest.
    stored = _sum([each[contract.STORED_EMBEDDINGS] for each in outputs])[:, ::-1]
    # Narrower than asked only if it was cut to the model's limit; wider if it was answered with other requests.
    history = _newest(inputs["history"], min(each[contract.ITEM_IDS].shape[1] for each in outputs))
    given = _vectors_of(history, outputs, stored.shape[2])
    wants_stored = ~_any(given) & _any(stored)
    if wants_stored.any():
        width = max(given.shape[1], stored.shape[1])
        given, stored = _widened(given, width), _widened(stored, width)
        given = np.where(wants_stored[:, np.newaxis, np.newaxis], stored, given)
        padding = np.full((len(queries), width - history.shape[1]), b"", dtype=object)
        history = np.concatenate([padding, history], axis=1)
    named = np.max([each[contract.NAMED] for each in outputs], axis=0)
    return inputs | {"history": history, contract.HISTORY_EMBEDDINGS: given, contract.NAMED: named}


def merge_candidates(answers: Answers, batch: int) -> list[Candidates]:
    """The best candidates of B requests: as many as one model over all items would rank.

    Args:
        answers: Of `shard_retrieve`.
        batch: B.
    """
    merged = []
    for line in range(batch):
        shards, ids, scores, places = [], [], [], []
        wanted = 0
        for shard, outputs in answers.items():
            there = outputs[contract.PLACES][line] >= 0
            ids.append(outputs[contract.ITEM_IDS][line][there])
            scores.append(outputs[contract.SCORES][line][there])
            places.append(outputs[contract.PLACES][line][there])
            shards.append(np.full(there.sum(), shard))
            wanted = max(wanted, int(outputs[contract.WANTED][line]))
        values = np.concatenate(scores)
        best = np.lexsort([np.concatenate(places), -values])[:wanted]
        merged.append(Candidates(np.concatenate(shards)[best], np.concatenate(ids)[best], values[best]))
    return merged


def rank_inputs(shared: Arrays, candidates: Sequence[Candidates], shard: int) -> Arrays | None:
    """What a shard is asked to rank; None: none of the candidates is its."""
    own = [each.item_ids[each.shards == shard] for each in candidates]
    width = max(map(len, own), default=0)
    if not width:
        return None
    items = np.full((len(own), width), b"", dtype=object)
    for line, ids in enumerate(own):
        items[line, : len(ids)] = ids
    names = contract.SIGNATURES[contract.SHARD_RANK].keys() - {contract.ITEM_IDS}
    return {name: shared[name] for name in names} | {contract.ITEM_IDS: items}


def retrieve_inputs(shared: Arrays) -> Arrays:
    """What each shard is asked for its candidates."""
    return {name: shared[name] for name in contract.SIGNATURES[contract.SHARD_RETRIEVE]}


def retrieved(candidates: Sequence[Candidates], queries: Sequence[Query]) -> list[list[Recommendation]]:
    """The candidates without ranking, at most ``k`` of each request."""
    return [
        [
            Recommendation(item.decode(errors="replace"), float(score))
            for item, score in zip(found.item_ids[: query.k], found.scores[: query.k], strict=True)
        ]
        for found, query in zip(candidates, queries, strict=True)
    ]


def merge_ranked(
    answers: Answers, candidates: Sequence[Candidates], queries: Sequence[Query]
) -> list[list[Recommendation]]:
    """The answer of B requests: at most ``k`` items each, best first.

    Args:
        answers: Of `shard_rank`, for what `rank_inputs` says.
        candidates: Of `merge_candidates`.
        queries: The requests.
    """
    of_shard = {shard: recommendations(outputs) for shard, outputs in answers.items()}
    result = []
    for line, (found, query) in enumerate(zip(candidates, queries, strict=True)):
        scored = {item.item_id: item for ranked in of_shard.values() for item in ranked[line]}
        order = [item.decode(errors="replace") for item in found.item_ids]
        # Sorting is stable: equal scores stay in the order of the candidates.
        items = sorted((scored[item] for item in order if item in scored), key=lambda item: -item.score)
        result.append(items[: query.k])
    return result


def _sum(parts: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    total: npt.NDArray[np.float32] = np.sum(parts, axis=0, dtype=np.float32)
    return total


def _vectors_of(history: npt.NDArray[Any], outputs: Sequence[Arrays], dimension: int) -> npt.NDArray[np.float32]:
    """The vectors of a history's items, bytes [B, H] -> float32 [B, H, D], zeros for items that no shard holds."""
    vectors = np.zeros((*history.shape, dimension), np.float32)
    for line, wanted in enumerate(history):
        held: dict[bytes, npt.NDArray[np.float32]] = {}
        for answer in outputs:
            ids, found = answer[contract.ITEM_IDS][line], answer[contract.HISTORY_EMBEDDINGS][line]
            held.update((ids[place], found[place]) for place in np.flatnonzero((found != 0.0).any(axis=1)))
        for place, item in enumerate(wanted):
            if item in held:
                vectors[line, place] = held[item]
    return vectors


def _any(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether each line has a vector, bool [B]."""
    there: npt.NDArray[np.bool_] = (vectors != 0.0).reshape(len(vectors), -1).any(axis=1)
    return there


def _newest(history: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """The last entries of each line, as a model cuts a history that is too long."""
    if history.shape[1] <= width:
        return history
    cut = np.full((len(history), width), b"", dtype=object)
    for target, line in zip(cut, history, strict=True):
        entries = [entry for entry in line if entry][-width:]
        target[width - len(entries) :] = entries
    return cut


def _widened(vectors: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """Padded in front, as histories are."""
    return np.pad(vectors, [(0, 0), (width - vectors.shape[1], 0), (0, 0)])
