"""Clients of a model that is exported in shards, each served by a server of its own.

    with ShardedClient(["host1:8500", "host2:8500", "host3:8500"]) as client:
        for item in client.recommend(Query(user_id="42", k=10)).items:
            print(item.item_id, item.score)

The answer is that of one model over all items (`serving.client.shard_merge`), exactly so where the shards' indexes are
exact. A call is three rounds in which all shards are asked at once; a shard may be a name that resolves to replicas.
"""

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from serving import contract
from serving.client.client import AsyncRecommenderClient, RecommenderClient
from serving.client.connections import Deadline
from serving.client.errors import AccessDeniedError, BadRequestError, DeadlineExceededError, ServingError
from serving.client.settings import check_timeout
from serving.client.shard_merge import (
    Answers,
    check_shards,
    context_inputs,
    merge_candidates,
    merge_ranked,
    rank_inputs,
    retrieve_inputs,
    retrieved,
    shared_inputs,
)
from serving.client.types import Arrays, Query, Recommendation

_DEFAULT_TIMEOUT = 10.0
# Calls of a blocking client that run at once; more wait for a thread.
_CALLS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class ShardedAnswer:
    """The answer to one request.

    Attributes:
        items: At most ``query.k``, best first.
        missing: Addresses of shards whose items are not among them; empty unless ``partial`` is set.
    """

    items: list[Recommendation]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Round:
    """What shards are asked at once: shard -> inputs of a signature; ``left``: rounds to come, this one included."""

    signature: str
    inputs: Mapping[int, Arrays]
    left: int


# Outputs, or why there are none.
_Reply = Arrays | ServingError
_Plan = Generator[_Round, dict[int, _Reply], list[ShardedAnswer]]


class _Shards:
    """What the blocking and the asynchronous client have in common.

    Args:
        addresses: Of all shards, in any order.
        timeout: Seconds within which a call must be answered; None waits forever.
        partial: Whether to answer without the items of shards that can't be asked, which the answer then names.

    Raises:
        BadRequestError: there are no addresses, one is given twice, or the timeout is wrong.
    """

    def __init__(self, addresses: Sequence[str], timeout: float | None, partial: bool) -> None:
        if isinstance(addresses, str) or not addresses:
            raise BadRequestError(f"addresses must be a list with the address of each shard, got {addresses!r}")
        if len(set(addresses)) < len(addresses):
            raise BadRequestError(f"an address is given twice: {', '.join(addresses)}. Give one for each shard")
        check_timeout(timeout)
        self.addresses = tuple(addresses)
        self.timeout = timeout
        self.partial = partial

    def plan(self, queries: Sequence[Query], ranked: bool) -> _Plan:
        """The rounds of a call: yields what to ask, is sent the replies, and returns the answers."""
        if not queries:
            return []
        missing: set[int] = set()
        rounds = 3 if ranked else 2
        everyone = range(len(self.addresses))
        asked = context_inputs(queries)
        replies = yield _Round(contract.SHARD_CONTEXT, dict.fromkeys(everyone, asked), rounds)
        answers = self._answered(replies, missing)
        export = check_shards(answers, self.addresses)

        shared = shared_inputs(queries, answers)
        asked = retrieve_inputs(shared)
        replies = yield _Round(contract.SHARD_RETRIEVE, dict.fromkeys(answers, asked), rounds - 1)
        answers = self._answered(replies, missing)
        check_shards(answers, self.addresses, export)
        candidates = merge_candidates(answers, len(queries))
        if not ranked:
            return self._described(retrieved(candidates, queries), missing)

        inputs = {shard: rank_inputs(shared, candidates, shard) for shard in answers}
        wanted = {shard: own for shard, own in inputs.items() if own is not None}
        answers = {}
        if wanted:
            replies = yield _Round(contract.SHARD_RANK, wanted, 1)
            answers = self._answered(replies, missing)
            check_shards(answers, self.addresses, export)
        return self._described(merge_ranked(answers, candidates, queries), missing)

    def seconds(self, deadline: Deadline, rounds_left: int) -> float | None:
        """How long a round may take.

        Raises:
            DeadlineExceededError: There is no time left.
        """
        left = deadline.left()
        if left is None:
            return None
        if left <= 0:
            raise DeadlineExceededError(
                f"the shards did not answer within {deadline.seconds:g} s. Allow more time with `timeout` (--timeout)"
            )
        # A shard that hangs must leave time to ask the others further.
        return left / rounds_left if self.partial else left

    def _answered(self, replies: Mapping[int, _Reply], missing: set[int]) -> Answers:
        """The answers of a round, whose other shards are added to ``missing``; raises what must not be passed over."""
        answers: dict[int, Arrays] = {}
        failures: dict[int, ServingError] = {}
        for shard, reply in replies.items():
            if isinstance(reply, ServingError):
                failures[shard] = reply
            else:
                answers[shard] = reply
        for error in failures.values():
            if not self.partial or not answers or isinstance(error, BadRequestError | AccessDeniedError):
                raise error
        missing.update(failures)
        return answers

    def _described(self, found: Sequence[list[Recommendation]], missing: set[int]) -> list[ShardedAnswer]:
        names = tuple(self.addresses[shard] for shard in sorted(missing))
        return [ShardedAnswer(items, names) for items in found]


class ShardedClient:
    """Requests recommendations from all shards of a model; thread-safe.

    Args:
        addresses: Of the shards, one each and in any order, as for `RecommenderClient`.
        model_name: The name under which each is served.
        timeout: Seconds within which a call must be answered, with all its rounds; None waits forever.
        partial: What to do if a shard can't be asked: False raises its error; True answers from the others' items, and
            says so (`ShardedAnswer.missing`). A history's items on missing shards are then unknown.
        version: Of the model, the same in all shards; None: the newest of each.
        client: Makes the client of one shard, in place of ``model_name`` and ``version``; None: a `RecommenderClient`
            with the default settings.

    Raises:
        BadRequestError: a value is wrong.

    Raises (every call):
        ServerFaultError: the servers' models are not the shards of one export.
        ServingError: those of `RecommenderClient`.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        model_name: str = "recommender",
        timeout: float | None = _DEFAULT_TIMEOUT,
        *,
        partial: bool = False,
        version: int | None = None,
        client: Callable[[str], RecommenderClient] | None = None,
    ) -> None:
        self._shards = _Shards(addresses, timeout, partial)
        make = client or (lambda address: RecommenderClient(address, model_name, timeout, version))
        self._clients = [make(address) for address in self._shards.addresses]
        self._pool = ThreadPoolExecutor(_CALLS_AT_ONCE * len(self._clients), thread_name_prefix="babelrec-shard")

    def __enter__(self) -> Self:
        """Returns itself; leaving the block closes the connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        for client in self._clients:
            client.close()
        self._pool.shutdown()

    def recommend(self, query: Query) -> ShardedAnswer:
        """Recommends items for one query: retrieved, filtered, ranked, best first."""
        return self.recommend_batch([query])[0]

    def recommend_batch(self, queries: Sequence[Query]) -> list[ShardedAnswer]:
        """Recommends for several queries; results are in the order of the queries."""
        return self._run(self._shards.plan(queries, ranked=True))

    def retrieve_batch(self, queries: Sequence[Query]) -> list[ShardedAnswer]:
        """Like ``recommend_batch``, but without the ranking stage: candidates without languages, titles and heads."""
        return self._run(self._shards.plan(queries, ranked=False))

    def _run(self, plan: _Plan) -> list[ShardedAnswer]:
        deadline = Deadline(self._shards.timeout)
        try:
            asked = next(plan)
            while True:
                seconds = self._shards.seconds(deadline, asked.left)
                futures = {
                    shard: self._pool.submit(self._ask, shard, asked.signature, inputs, seconds)
                    for shard, inputs in asked.inputs.items()
                }
                asked = plan.send({shard: future.result() for shard, future in futures.items()})
        except StopIteration as stopped:
            answers: list[ShardedAnswer] = stopped.value
            return answers

    def _ask(self, shard: int, signature: str, inputs: Arrays, seconds: float | None) -> _Reply:
        try:
            return self._clients[shard].predict(signature, inputs, timeout=seconds)
        except ServingError as error:
            return error


class AsyncShardedClient:
    """`ShardedClient` with coroutines for methods.

    Args:
        addresses, model_name, timeout, partial, version: As for `ShardedClient`.
        client: Makes the client of one shard, likewise an `AsyncRecommenderClient`.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        model_name: str = "recommender",
        timeout: float | None = _DEFAULT_TIMEOUT,
        *,
        partial: bool = False,
        version: int | None = None,
        client: Callable[[str], AsyncRecommenderClient] | None = None,
    ) -> None:
        self._shards = _Shards(addresses, timeout, partial)
        make = client or (lambda address: AsyncRecommenderClient(address, model_name, timeout, version))
        self._clients = [make(address) for address in self._shards.addresses]

    async def __aenter__(self) -> Self:
        """Returns itself; leaving the block closes the connections."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections."""
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        for client in self._clients:
            await client.close()

    async def recommend(self, query: Query) -> ShardedAnswer:
        """See `ShardedClient.recommend`."""
        return (await self.recommend_batch([query]))[0]

    async def recommend_batch(self, queries: Sequence[Query]) -> list[ShardedAnswer]:
        """See `ShardedClient.recommend_batch`."""
        return await self._run(self._shards.plan(queries, ranked=True))

    async def retrieve_batch(self, queries: Sequence[Query]) -> list[ShardedAnswer]:
        """See `ShardedClient.retrieve_batch`."""
        return await self._run(self._shards.plan(queries, ranked=False))

    async def _run(self, plan: _Plan) -> list[ShardedAnswer]:
        deadline = Deadline(self._shards.timeout)
        try:
            asked = next(plan)
            while True:
                seconds = self._shards.seconds(deadline, asked.left)
                replies = await asyncio.gather(
                    *(self._ask(shard, asked.signature, own, seconds) for shard, own in asked.inputs.items())
                )
                asked = plan.send(dict(zip(asked.inputs, replies, strict=True)))
        except StopIteration as stopped:
            answers: list[ShardedAnswer] = stopped.value
            return answers

    async def _ask(self, shard: int, signature: str, inputs: Arrays, seconds: float | None) -> Any:  # noqa: ANN401
        try:
            return await self._clients[shard].predict(signature, inputs, timeout=seconds)
        except ServingError as error:
            return error
