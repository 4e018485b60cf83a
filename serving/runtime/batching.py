"""Batching of concurrent runs by TensorFlow's own scheduler: the ``BatchFunction`` op.

The op contains the batch scheduler that TensorFlow Serving's batching session also uses, with the same parameters and
errors. The part of the graph that a signature needs becomes a function; one ``BatchFunction`` operation in the same
graph combines the runs of several threads into one call of it and returns each its rows. It is measured from within
(``serving/runtime/probe.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.private.tensorflow import Output, library
from serving.protos import types_pb2
from serving.runtime import graphs, probe
from serving.runtime.graphs import Operation
from serving.runtime.session import SavedModelSession
from serving.tensors import numpy_dtype, string_array

_INT64 = types_pb2.DT_INT64
_HANDLES = (types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)
_CALLS = ("StatefulPartitionedCall", "PartitionedCall")
_FIRST_REFERENCE = 100
_Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BatchingOptions:
    """TensorFlow Serving's ``BatchingParameters``, including its defaults.

    Attributes:
        max_batch_size: maximum rows of a batch.
        batch_timeout_micros: how long a batch that isn't full waits for more; 0 takes what is available once a thread
            is free.
        num_batch_threads: batches that run concurrently.
        max_enqueued_batches: maximum waiting batches; further requests are refused (UNAVAILABLE).
        allowed_batch_sizes: batches are padded to the next of these sizes; empty allows all.
        pad_variable_length_inputs: whether inputs whose sizes differ beyond the first axis are padded with zeros or
            empty strings to the largest in the batch.
        enable_large_batch_splitting: whether a request with more rows than ``max_batch_size`` is split.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    num_batch_threads: int = 2
    max_enqueued_batches: int = 10
    allowed_batch_sizes: Sequence[int] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a signature: its tensor, DataType, and rank (None when free)."""

    tensor: Output
    dtype: int
    rank: int | None


@dataclass(frozen=True, slots=True)
class Batched:
    """The batched form of a signature.

    Attributes:
        operation: name of the ``BatchFunction``.
        feeds: tensors to feed instead of the inputs.
        tickets: tensor to feed with as many numbers as there are rows (``probe.Tickets``).
        fetches: tensors to fetch instead of the outputs.
        joined: tensor that describes how the queue batched a run, for ``probe.read``.
    """

    operation: str
    feeds: Sequence[Output]
    tickets: Output
    fetches: Sequence[Output]
    joined: Output


def add_batching(
    session: SavedModelSession,
    name: str,
    inputs: Sequence[Input],
    outputs: Sequence[Output],
    options: BatchingOptions,
) -> Batched:
    """Adds a batched form of ``outputs`` as a function of ``inputs`` to the session's graph.

    Args:
        session: whose graph to extend.
        name: name prefix of the added operations; unique in the graph.
        inputs: tensors that a run feeds.
        outputs: tensors that a run fetches.
        options: how to batch.

    Raises:
        TensorFlowError: this part of the graph can't be batched.
    """
    graph = session.graph
    assert graph is not None
    feeds = [entry.tensor for entry in inputs]
    order = list(range(len(feeds)))
    results = list(range(len(outputs)))
    whole = _whole_call(feeds, outputs)
    if whole is not None:
        # TF2 models: the signature is a function already, and each additional call level slows down loading.
        call, order = whole
        function = graphs.called_function(call)
        captured = graphs.input_tensors(call)[len(feeds) :]
        results = [tensor.index for tensor in outputs]
        outputs = [Output(call, index) for index in range(graphs.output_count(call))]
        inputs = [inputs[index] for index in order]
    else:
        function = f"{name}_rows"
        body, captured = _partition(feeds, outputs)
        graphs.add_function(graph, graph, function, body, [*feeds, *captured], outputs)
    output_types = [graphs.output_type(tensor) for tensor in outputs]
    captured_types = [graphs.output_type(tensor) for tensor in captured]
    own_feeds = [graphs.placeholder(graph, f"{name}_input_{index}", entry.dtype) for index, entry in enumerate(inputs)]
    tickets = graphs.placeholder(graph, f"{name}_tickets", _INT64)
    batched = list(own_feeds)
    is_padded = [options.pad_variable_length_inputs and _is_ragged(entry) for entry in inputs]
    for index, entry in enumerate(inputs):
        if is_padded[index]:
            batched[index] = _rows_to_variants(graph, f"{name}_pack_{index}", own_feeds[index], entry)
    if whole is not None and not any(is_padded):
        definition = probe.add_to(graphs.function_definition(graph, function), f"{name}_joined", len(inputs))
        graphs.import_function(graph, definition)
        function = definition.signature.name
    else:
        function = _add_batch(graph, name, function, inputs, is_padded, captured_types, output_types)
    batched.append(tickets)
    operation = (
        queue_operation(graph, name, f"{name}_batch", function, options)
        .inputs(batched)
        .inputs(captured)
        .types("Tin", [graphs.output_type(tensor) for tensor in batched])
        .types("Tcaptured", captured_types)
        .types("Tout", [*output_types, types_pb2.DT_DOUBLE])
        .finish()
    )
    return Batched(
        graphs.operation_name(operation),
        [own_feeds[order.index(index)] for index in range(len(inputs))],
        tickets,
        [Output(operation, index) for index in results],
        Output(operation, len(output_types)),
    )


def queue_operation(graph: int, queue: str, name: str, function: str, options: BatchingOptions) -> Operation:
    """Describes a ``BatchFunction``; its inputs and their types are still to be added.

    All with the same ``queue`` and options share one queue, whatever their functions and types.
    """
    return (
        Operation(graph, "BatchFunction", name)
        .function("f", function)
        .attribute("num_batch_threads", options.num_batch_threads)
        .attribute("max_batch_size", options.max_batch_size)
        .attribute("batch_timeout_micros", options.batch_timeout_micros)
        .attribute("max_enqueued_batches", options.max_enqueued_batches)
        .attribute("allowed_batch_sizes", list(options.allowed_batch_sizes))
        .attribute("enable_large_batch_splitting", options.enable_large_batch_splitting)
        .attribute("batching_queue", queue)
        .attribute("shared_name", queue)
    )


def _partition(feeds: Sequence[Output], outputs: Sequence[Output]) -> tuple[list[int], list[Output]]:
    """The operations between ``feeds`` and ``outputs``, and the tensors that enter them from outside.

    Operations that don't depend on a feed are copied into the function, where constants can be folded, except for
    handles of variables, tables and searchers, which exist once, and for readers of TF1 reference variables, which
    functions can't take.
    """
    fed = {_key(tensor) for tensor in feeds}
    body: dict[int, None] = {}
    captured: dict[_Key, Output] = {}
    waiting = [tensor.oper for tensor in outputs if _key(tensor) not in fed]
    depends: dict[int, bool] = {}
    while waiting:
        operation = waiting.pop()
        if operation in body:
            continue
        body[operation] = None
        for tensor in graphs.input_tensors(operation):
            if _key(tensor) in fed:
                continue
            if not _depends(tensor.oper, fed, depends) and (
                graphs.output_type(tensor) in _HANDLES or _takes_reference(tensor.oper)
            ):
                captured[_key(tensor)] = tensor
            else:
                waiting.append(tensor.oper)
        waiting.extend(graphs.control_inputs(operation))
    return list(body), list(captured.values())


def _whole_call(feeds: Sequence[Output], outputs: Sequence[Output]) -> tuple[int, list[int]] | None:
    """If the outputs are those of a single function call with the feeds: the call, and the feeds in its order."""
    call = outputs[0].oper
    if graphs.operation_type(call) not in _CALLS or any(tensor.oper != call for tensor in outputs):
        return None
    arguments = graphs.input_tensors(call)
    fed = [_key(tensor) for tensor in feeds]
    first = [_key(tensor) for tensor in arguments[: len(fed)]]
    known: dict[int, bool] = {}
    if sorted(first) != sorted(fed) or any(
        _key(tensor) in fed or _depends(tensor.oper, set(fed), known) for tensor in arguments[len(fed) :]
    ):
        return None
    return call, [fed.index(key) for key in first]


def _depends(operation: int, fed: set[_Key], known: dict[int, bool]) -> bool:
    """Whether an operation's value depends on a fed tensor. Iterative: graphs are deep."""
    stack = [operation]
    while stack:
        current = stack[-1]
        if current in known:
            stack.pop()
            continue
        tensors = graphs.input_tensors(current)
        if any(_key(tensor) in fed for tensor in tensors):
            known[current] = True
            stack.pop()
            continue
        parents = [tensor.oper for tensor in tensors]
        # A loop in TF1 control flow returns to itself through NextIteration.
        unknown = [p for p in parents if p not in known and graphs.operation_type(p) != "NextIteration"]
        if unknown:
            stack.extend(unknown)
        else:
            known[current] = any(known.get(parent, False) for parent in parents)
            stack.pop()
    return known[operation]


def _takes_reference(operation: int) -> bool:
    return any(graphs.output_type(tensor) > _FIRST_REFERENCE for tensor in graphs.input_tensors(operation))


def _key(tensor: Output) -> _Key:
    return tensor.oper, tensor.index


def _rows_to_variants(graph: int, name: str, tensor: Output, entry: Input) -> Output:
    """A dense tensor [n, a, b, ...] as n variants, each a row of any size, which ``BatchFunction`` can combine."""
    assert entry.rank is not None
    build = _Builder(graph, name)
    shape = build.add("Shape", [tensor], T=entry.dtype, out_type=_INT64)
    splits = []
    for axis in range(entry.rank - 1):
        # Number of rows at this level, and the size of each: all the same, as the tensor is dense.
        leading = build.add("Slice", [shape, build.vector([0]), build.vector([axis + 1])], T=_INT64, Index=_INT64)
        rows = build.add("Prod", [leading, build.vector([0])], T=_INT64, Tidx=_INT64)
        size = build.add("Slice", [shape, build.vector([axis + 1]), build.vector([1])], T=_INT64, Index=_INT64)
        ends = build.add("AddV2", [rows, build.scalar(1)], T=_INT64)
        steps = build.add("Range", [build.scalar(0), ends, build.scalar(1)], Tidx=_INT64)
        splits.append(build.add("Mul", [steps, size], T=_INT64))
    values = build.add("Reshape", [tensor, build.vector([-1])], T=entry.dtype, Tshape=_INT64)
    return Output(
        Operation(graph, "RaggedTensorToVariant", f"{name}_rows")
        .inputs(splits)
        .input(values)
        .attribute("RAGGED_RANK", len(splits))
        .attribute("batched_input", True)
        .type("Tvalues", entry.dtype)
        .type("Tsplits", _INT64)
        .finish(),
        0,
    )


def _variants_to_rows(graph: int, name: str, variants: Output, entry: Input) -> Output:
    """The inverse of ``_rows_to_variants``, padded with zeros or empty strings to the largest row."""
    assert entry.rank is not None
    levels = entry.rank - 1
    rows = (
        Operation(graph, "RaggedTensorFromVariant", f"{name}_rows")
        .input(variants)
        .attribute("input_ragged_rank", levels - 1)
        .attribute("output_ragged_rank", levels)
        .type("Tvalues", entry.dtype)
        .type("Tsplits", _INT64)
        .finish()
    )
    numpy_type = numpy_dtype(entry.dtype)
    assert numpy_type is not None
    nothing = string_array(b"") if numpy_type.hasobject else np.zeros((), numpy_type)
    return Output(
        Operation(graph, "RaggedTensorToTensor", f"{name}_dense")
        .input(graphs.constant(graph, f"{name}_shape", np.full(entry.rank, -1, np.int64)))
        .input(Output(rows, levels))
        .input(graphs.constant(graph, f"{name}_nothing", nothing))
        .inputs([Output(rows, level) for level in range(levels)])
        .texts("row_partition_types", ["ROW_SPLITS"] * levels)
        .type("T", entry.dtype)
        .type("Tindex", _INT64)
        .type("Tshape", _INT64)
        .finish(),
        0,
    )


def _add_batch(
    graph: int,
    name: str,
    function: str,
    inputs: Sequence[Input],
    is_padded: Sequence[bool],
    captured_types: Sequence[int],
    output_types: Sequence[int],
) -> str:
    """Adds the function that a batch runs, and returns its name: it unpacks rows, calls ``function`` and probes."""
    c = library()
    own = c.TF_NewGraph()
    try:
        arguments = [
            graphs.placeholder(own, f"row_{index}", types_pb2.DT_VARIANT if padded else entry.dtype)
            for index, (entry, padded) in enumerate(zip(inputs, is_padded, strict=True))
        ]
        tickets = graphs.placeholder(own, "tickets", _INT64)
        handles = [graphs.placeholder(own, f"handle_{index}", dtype) for index, dtype in enumerate(captured_types)]
        joined, clock = probe.add(own, "joined", tickets)
        dense = [
            _variants_to_rows(own, f"unpack_{index}", argument, entry) if padded else argument
            for index, (argument, entry, padded) in enumerate(zip(arguments, inputs, is_padded, strict=True))
        ]
        call = (
            Operation(own, "StatefulPartitionedCall", "call")
            .inputs([*dense, *handles])
            .after(clock)
            .function("f", function)
            .types("Tin", [*(entry.dtype for entry in inputs), *captured_types])
            .types("Tout", output_types)
            .finish()
        )
        given = [*arguments, tickets, *handles]
        fed = {tensor.oper for tensor in given}
        body = [operation for operation in graphs.operations(own) if operation not in fed]
        results = [*(Output(call, index) for index in range(len(output_types))), joined]
        whole = f"{name}_joined"
        graphs.add_function(own, graph, whole, body, given, results)
    finally:
        c.TF_DeleteGraph(own)
    return whole


def _is_ragged(entry: Input) -> bool:
    return entry.rank is not None and entry.rank >= 2


class _Builder:
    """Adds operations that need only inputs and types, and numbers their names."""

    def __init__(self, graph: int, prefix: str) -> None:
        self._graph = graph
        self._prefix = prefix
        self._count = 0

    def add(self, kind: str, inputs: Sequence[Output], **types: int) -> Output:
        operation = Operation(self._graph, kind, self._name())
        for tensor in inputs:
            operation.input(tensor)
        for name, dtype in types.items():
            operation.type(name, dtype)
        return Output(operation.finish(), 0)

    def vector(self, values: Sequence[int]) -> Output:
        return graphs.constant(self._graph, self._name(), np.array(values, np.int64))

    def scalar(self, value: int) -> Output:
        return graphs.constant(self._graph, self._name(), np.array(value, np.int64))

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}_{self._count}"
