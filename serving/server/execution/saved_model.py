"""A servable that runs a SavedModel through TensorFlow's C API."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from serving.private.tensorflow import Output, TensorFlowError, library
from serving.protos import config_pb2, meta_graph_pb2, tensor_pb2
from serving.runtime import clock, probe
from serving.runtime.batching import Batched, BatchingOptions, Input, add_batching
from serving.runtime.memory import give_back_when_quiet
from serving.runtime.open_batch import OpenBatches
from serving.runtime.session import Callable as SessionCallable
from serving.runtime.session import SavedModelSession
from serving.runtime.tensors import TensorCache, bytes_from_tensor
from serving.server.errors import NOBODYS_FAULT, StatusError, from_exception, invalid_argument, too_late
from serving.server.execution.servable import METHODS, Signature, read_signature
from serving.server.operations.batch_metrics import BatchMetrics
from serving.tensors import rows_of

_LOGGER = logging.getLogger(__name__)
# Output sets that get their own graph when requests first ask for them. TensorFlow optimises such a graph with the
# session locked and never frees it, and a signature of n outputs has 2^n sets.
_MAX_OUTPUT_SETS = 16


class _ThreadCache(threading.local):
    def __init__(self) -> None:
        self.tensors = TensorCache()


_cache = _ThreadCache()


class SavedModelServable:
    """A SavedModel in its own graph and session.

    Args:
        path: the version directory.
        tags: tags of the meta graph to load.
        config: a ``tensorflow.ConfigProto``.
        batching: how to batch concurrent requests; None runs each alone.

    Raises:
        TensorFlowError: the model can't be loaded.
    """

    def __init__(
        self, path: Path, tags: Sequence[str], config: config_pb2.ConfigProto, batching: BatchingOptions | None = None
    ) -> None:
        self.path = path
        self._session = SavedModelSession(path, tags, config)
        self.signature_defs: dict[str, meta_graph_pb2.SignatureDef] = dict(self._session.meta_graph.signature_def)
        self.signatures: dict[str, Signature] = {key: read_signature(d) for key, d in self.signature_defs.items()}
        self._batching = batching
        self._batched: dict[str, Batched] = {}
        self._open_batches: OpenBatches | None = None
        self._tickets = probe.Tickets()
        # Counts requests and runs of batched signatures.
        self.batch_metrics: BatchMetrics | None = None
        if batching is not None:
            if not batching.enable_large_batch_splitting:
                self._open_batches = OpenBatches(self._session, batching)
            for key in self.signatures:
                self._add_batching(key, batching)
            self._session.extend()
        # Called with this object first in ``close``: ends everything else that may run the session.
        self.before_close: Callable[[SavedModelServable], None] | None = None
        self._running = 0
        self._both_ways = False
        self._callables: dict[tuple[str, tuple[str, ...], bool], SessionCallable] = {}
        self._callables_lock = threading.Lock()
        self._output_sets: set[tuple[str, tuple[str, ...]]] = set()
        self._max_output_sets = _MAX_OUTPUT_SETS
        if self._batched:
            clock.watch.add(self.close_batches)

    @property
    def batched_signatures(self) -> Collection[str]:
        """Keys of the signatures whose concurrent requests are batched."""
        return self._batched.keys()

    @property
    def batching(self) -> BatchingOptions | None:
        """How requests are batched; None: they aren't."""
        return self._batching

    @property
    def batch_operations(self) -> Collection[str]:
        """Names of the operations that batch requests."""
        return [batched.operation for batched in self._batched.values()]

    @property
    def max_batch_size(self) -> int:
        """Maximum rows of a batch."""
        return self._batching.max_batch_size if self._batching is not None else 1

    @property
    def fills_up(self) -> bool:
        """Whether batches are padded to certain sizes, which the batch queue does."""
        return self._batching is not None and bool(self._batching.allowed_batch_sizes)

    @property
    def session(self) -> int:
        """The ``TF_Session``."""
        return self._session.pointer

    def tensors(self, key: str, outputs: Iterable[str]) -> tuple[list[Output], list[Output]]:
        """All inputs of a signature, and some of its outputs, in the graph."""
        signature = self.signatures[key]
        return (
            [self._session.output(spec.name) for spec in signature.inputs.values()],
            [self._session.output(signature.outputs[alias].name) for alias in outputs],
        )

    def check_signatures(self) -> None:
        """Checks that the inputs and outputs of all signatures are in the graph.

        Raises:
            StatusError: one is missing.
        """
        for key, signature in self.signatures.items():
            for alias, spec in [*signature.inputs.items(), *signature.outputs.items()]:
                if not spec.name:
                    continue  # sparse or composite, which no request can use
                try:
                    self._session.output(spec.name)
                except TensorFlowError as error:
                    raise invalid_argument(
                        f"signature {key!r} names {spec.name!r} as {alias!r}: {error.message}"
                    ) from None

    @property
    def unused_signatures(self) -> list[str]:
        """Keys of the signatures that were not requested yet."""
        used = {key for key, _, _ in self._callables}
        return [key for key in self.signatures if key not in used]

    def fix_output_sets(self) -> None:
        """Ensures that no request makes TensorFlow build a graph for a new set of outputs from now on.

        No request is answered while such a graph is built, which takes seconds for a large model. All outputs of the
        signature are computed instead, and those not requested are dropped.
        """
        self._max_output_sets = len(self._output_sets)

    @contextlib.contextmanager
    def warming_up(self) -> Iterator[None]:
        """Inside the block, a request that is not ``alone`` runs both alone and batched: both are warm afterwards."""
        self._both_ways = True
        try:
            yield
        finally:
            self._both_ways = False

    def run(
        self,
        signature: str,
        inputs: Mapping[str, tensor_pb2.TensorProto],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> dict[str, tensor_pb2.TensorProto]:
        """See ``Servable.run``."""
        results = self.run_serialized(signature, inputs, outputs, timeout=timeout)
        return {alias: tensor_pb2.TensorProto.FromString(content) for alias, content in results.items()}

    def run_serialized(
        self,
        signature: str,
        inputs: Mapping[str, tensor_pb2.TensorProto],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        alone: bool = False,
    ) -> dict[str, bytes]:
        """See ``Servable.run_serialized``."""

        def take(alias: str) -> tuple[int, bool]:
            try:
                return _cache.tensors.get(inputs[alias])
            except TensorFlowError as error:
                raise invalid_argument(f"tensor parsing error: {alias} ({error.message})") from None

        rows = next((rows_of(proto) or 0 for proto in inputs.values()), 0)
        computed = self._computed(signature, outputs)
        queued = time.time()
        joins = self._joins(signature, inputs, alone)
        if self._both_ways and not alone and self._may_join(signature, inputs):
            for tensor in self._call(signature, take, computed, timeout, rows, queued, batched=not joins):
                library().TF_DeleteTensor(tensor)
        start = time.monotonic()
        try:
            results = self._call(signature, take, computed, timeout, rows, queued, batched=joins)
        except StatusError as error:
            if not joins or error.code in NOBODYS_FAULT or not self._fits(inputs):
                raise
            # A batch fails as a whole, and another request may be at fault: retried alone, only its own faults count.
            left = None if timeout is None else timeout - (time.monotonic() - start)
            if left is not None and left <= 0:
                raise too_late() from None
            results = self._call(signature, take, computed, left, rows, queued, batched=False)
        return _read(dict(zip(computed, results, strict=True)), outputs)

    def close_batches(self) -> None:
        """Makes all batches run that wait for more requests, and returns at once.

        When the clock was set back, TensorFlow would let them wait until it shows their time.
        """
        with self._callables_lock:
            used = sorted({key for key, _, batched in self._callables if batched})
        if self._open_batches is not None:
            self._open_batches.close([_queue(key) for key in used])
        elif used:
            _LOGGER.warning(
                "batches of %s may wait until the clock shows their time, or until they are full: with "
                "enable_large_batch_splitting they can't be closed earlier",
                self.path,
            )

    def close(self) -> None:
        """See ``Servable.close``."""
        if self._batched:
            clock.watch.remove(self.close_batches)
        if self._open_batches is not None:
            self._open_batches.wait()
        if self.before_close is not None:
            self.before_close(self)
        self._callables.clear()
        self._session.close()
        give_back_when_quiet()

    def _call(
        self,
        signature: str,
        take: Callable[[str], tuple[int, bool]],
        outputs: tuple[str, ...],
        timeout: float | None,
        rows: int,
        queued: float,
        *,
        batched: bool,
    ) -> list[int]:
        """Runs a signature; the caller owns the returned tensors.

        Args:
            signature: its key.
            take: an input's alias -> its tensor, and whether to free it after the run.
            outputs: aliases of the outputs to compute.
            timeout: seconds after which the run is cancelled; None waits.
            rows: rows of the request.
            queued: when it started to wait, seconds since 1970.
            batched: whether it goes through the batch queue.
        """
        tensors: list[int] = []
        own: list[int] = []
        self._running += 1
        try:
            for alias in self.signatures[signature].inputs:
                tensor, is_own = take(alias)
                tensors.append(tensor)
                if is_own:
                    own.append(tensor)
            call = self._callable(signature, outputs, batched=batched)
            if not batched:
                self._count(signature, rows, queued)
                return call(tensors, timeout)
            ticket = self._tickets.take(rows)
            own.append(probe.tensor(ticket, rows))
            *results, joined = call([*tensors, own[-1]], timeout)
            own.append(joined)
            self._count(signature, rows, queued, probe.read(joined, ticket))
            return results
        except TensorFlowError as error:
            raise from_exception(error) from None
        finally:
            self._running -= 1
            for tensor in own:
                library().TF_DeleteTensor(tensor)
            _cache.tensors.trim()

    def _count(self, key: str, rows: int, queued: float, joined: probe.Joined | None = None) -> None:
        """Counts a request and its run: a separate one, which begins now, or the batches that the queue formed."""
        if self.batch_metrics is None or key not in self._batched:
            return
        began = time.time() if joined is None else joined.began
        inputs = len(self.signatures[key].inputs)
        self.batch_metrics.request(began - queued, rows, inputs)
        for size, real in [(rows, rows)] if joined is None else joined.runs:
            self.batch_metrics.run(size, real)

    def _joins(self, key: str, inputs: Mapping[str, tensor_pb2.TensorProto], alone: bool) -> bool:
        """Whether a request goes through the batch queue."""
        if not self._may_join(key, inputs):
            return False
        assert self._batching is not None
        # A single row that finds the model idle has nothing to wait for. Alone it may use all threads, while batches
        # share them. Threads that count concurrently may be off by one, which affects only speed.
        most = self._batching.max_batch_size if alone else 1 if self._running <= 0 else 0
        is_alone = (
            most > 0
            and not self._batching.allowed_batch_sizes
            and all(0 < (rows_of(proto) or 0) <= most for proto in inputs.values())
        )
        return not is_alone

    def _fits(self, inputs: Mapping[str, tensor_pb2.TensorProto]) -> bool:
        """Whether a batch has room for these inputs: the queue refuses more rows, and inputs that differ in rows."""
        assert self._batching is not None
        rows = {rows_of(proto) or 0 for proto in inputs.values()}
        return len(rows) == 1 and max(rows) <= self._batching.max_batch_size

    def _may_join(self, key: str, inputs: Mapping[str, tensor_pb2.TensorProto]) -> bool:
        """Whether the batch queue accepts these inputs.

        Padding needs the ranks that the signature declares. A request without rows can't be batched: the operation
        would answer it with empty vectors, regardless of the outputs' ranks.
        """
        if key not in self._batched or any(rows_of(proto) == 0 for proto in inputs.values()):
            return False
        assert self._batching is not None
        return not self._batching.pad_variable_length_inputs or all(
            spec.shape is None or len(spec.shape) == len(inputs[alias].tensor_shape.dim)
            for alias, spec in self.signatures[key].inputs.items()
        )

    def _computed(self, key: str, outputs: Sequence[str]) -> tuple[str, ...]:
        """Which outputs of a signature to compute for a request for ``outputs``: those, or all."""
        all_outputs = tuple(self.signatures[key].outputs)
        if len(outputs) == len(all_outputs):
            return all_outputs
        wanted = tuple(alias for alias in all_outputs if alias in outputs)
        with self._callables_lock:
            if (key, wanted) not in self._output_sets:
                if not self._both_ways and len(self._output_sets) >= self._max_output_sets:
                    return all_outputs
                self._output_sets.add((key, wanted))
        return wanted

    def _callable(self, key: str, outputs: tuple[str, ...], *, batched: bool) -> SessionCallable:
        with self._callables_lock:
            call = self._callables.get((key, outputs, batched))
            if call is None:
                call = self._callables[key, outputs, batched] = self._make_callable(key, outputs, batched)
            return call

    def _make_callable(self, key: str, outputs: Sequence[str], batched: bool) -> SessionCallable:
        # With batching, all concurrent runs have their own threads. TensorFlow's pool would add thread switches, a
        # third of the cost of a single row, and make requests that could join a batch wait behind the running batch.
        inline = self._batching is not None
        if batched:
            way = self._batched[key]
            fetches = dict(zip(self.signatures[key].outputs, way.fetches, strict=True))
            wanted = [*(fetches[alias] for alias in outputs), way.joined]
            return self._session.callable([*way.feeds, way.tickets], wanted, inline=inline)
        return self._session.callable(*self.tensors(key, outputs), inline=inline)

    def _add_batching(self, key: str, options: BatchingOptions) -> None:
        signature = self.signatures[key]
        if signature.method_name not in METHODS or key.startswith("__"):
            return
        try:
            inputs = [
                Input(self._session.output(spec.name), spec.dtype, None if spec.shape is None else len(spec.shape))
                for spec in signature.inputs.values()
            ]
            outputs = [self._session.output(spec.name) for spec in signature.outputs.values()]
            batched = add_batching(self._session, _queue(key), inputs, outputs, options)
            if self._open_batches is not None:
                self._open_batches.add(_queue(key))
            self._batched[key] = batched
        except TensorFlowError as error:
            _LOGGER.warning(
                "signature %r of %s is not batched, its graph can't be turned into a function: %s",
                key,
                self.path,
                error.message,
            )


def _queue(key: str) -> str:
    """Name of the queue of a signature."""
    return "babelrec_" + "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in key).lower()


def _read(tensors: Mapping[str, int], wanted: Sequence[str]) -> dict[str, bytes]:
    """The contents of some tensors; all of them are freed."""
    try:
        return {alias: bytes_from_tensor(tensors[alias]) for alias in wanted}
    except TensorFlowError as error:
        raise from_exception(error) from None
    finally:
        for tensor in tensors.values():
            library().TF_DeleteTensor(tensor)
