"""Measures from within how TensorFlow's batch queue batches requests, which it does not report.

Each row of a request has a ticket, a unique number. The function that a batch runs sees the tickets of all its rows,
and returns for each row when the batch began and how many rows it had.
"""

import ctypes
import functools
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.private.tensorflow import Output, library
from serving.protos import function_pb2, types_pb2
from serving.runtime import graphs
from serving.runtime.graphs import Operation
from serving.runtime.tensors import tensor_from_proto
from serving.tensors import to_proto

_INT32, _INT64, _DOUBLE = types_pb2.DT_INT32, types_pb2.DT_INT64, types_pb2.DT_DOUBLE
_COLUMNS = 4
_NAME = "babelrec_joined"
_TICKETS = "babelrec_tickets"


class Tickets:
    """Unique numbers for rows. Thread-safe."""

    def __init__(self) -> None:
        self._next = 0
        self._lock = threading.Lock()

    def take(self, rows: int) -> int:
        """Reserves ``rows`` consecutive numbers and returns the first."""
        with self._lock:
            first = self._next
            self._next += rows
        return first


@dataclass(frozen=True, slots=True)
class Joined:
    """How the queue batched a request.

    Attributes:
        began: when its batch began to run, seconds since 1970; the first one if there are several.
        runs: (rows including padding, rows of requests) of the batches that this request counts. Each batch is
            counted by one of the requests in it.
    """

    began: float
    runs: Sequence[tuple[int, int]]


def tensor(first: int, rows: int) -> int:
    """Tickets as a ``TF_Tensor``; the caller frees it."""
    return tensor_from_proto(to_proto(np.arange(first, first + rows, dtype=np.int64)))


def add_to(definition: function_pb2.FunctionDef, name: str, position: int) -> function_pb2.FunctionDef:
    """A copy of a function that also returns how its rows were batched.

    The probe goes into the function instead of around it: each call level slows down loading a model.

    Args:
        definition: a ``FunctionDef``.
        name: the copy's name.
        position: index of the tickets (int64 [rows]) among its arguments.

    Returns:
        A ``FunctionDef`` with one more argument and one more result, which comes last and is for ``read``.
    """
    copy = function_pb2.FunctionDef()
    copy.CopyFrom(definition)
    copy.signature.name = name
    copy.signature.is_stateful = True
    added = _definition()
    arguments = [*copy.signature.input_arg]
    arguments.insert(position, added.signature.input_arg[0])
    del copy.signature.input_arg[:]
    copy.signature.input_arg.extend(arguments)
    # Attributes of arguments, by position.
    copy.attr.pop("_input_shapes", None)
    copy.arg_attr.clear()
    for index, attributes in definition.arg_attr.items():
        copy.arg_attr[index + (index >= position)].CopyFrom(attributes)
    copy.resource_arg_unique_id.clear()
    for index, number in definition.resource_arg_unique_id.items():
        copy.resource_arg_unique_id[index + (index >= position)] = number
    # The clock is read before the rows are processed.
    names = {argument.name for argument in definition.signature.input_arg}
    clock = next(node.name for node in added.node_def if node.op == "Timestamp")
    for node in copy.node_def:
        if not names.isdisjoint(node.input):
            node.input.append(f"^{clock}")
    copy.node_def.extend(added.node_def)
    result = added.signature.output_arg[0]
    copy.signature.output_arg.append(result)
    copy.ret[result.name] = added.ret[result.name]
    return copy


@functools.cache
def _definition() -> function_pb2.FunctionDef:
    """The probe as a function of the tickets."""
    c = library()
    graph = c.TF_NewGraph()
    try:
        tickets = graphs.placeholder(graph, _TICKETS, _INT64)
        joined, _ = add(graph, _NAME, tickets)
        body = [operation for operation in graphs.operations(graph) if operation != tickets.oper]
        graphs.add_function(graph, graph, _NAME, body, [tickets], [joined])
        return graphs.function_definition(graph, _NAME)
    finally:
        c.TF_DeleteGraph(graph)


def add(graph: int, name: str, tickets: Output) -> tuple[Output, int]:
    """Adds the probe to the graph that becomes a batch's function.

    Args:
        graph: a ``TF_Graph``.
        name: name prefix of the added operations.
        tickets: int64 [rows], of the whole batch.

    Returns:
        A float64 tensor [rows, 4] for ``read``, and the operation that reads the clock: operations that should run
        after it must depend on it.
    """
    numbers = itertools.count()

    def operation(kind: str, inputs: Sequence[Output] = (), **types: int) -> Operation:
        description = Operation(graph, kind, f"{name}_{next(numbers)}")
        for given in inputs:
            description.input(given)
        for key, dtype in types.items():
            description.type(key, dtype)
        return description

    def added(kind: str, inputs: Sequence[Output], **types: int) -> Output:
        return Output(operation(kind, inputs, **types).finish(), 0)

    def constant(value: object, dtype: type) -> Output:
        return graphs.constant(graph, f"{name}_{next(numbers)}", np.array(value, dtype))

    clock = operation("Timestamp").finish()
    first_axis = constant([0], np.int32)
    leader = added("Min", [tickets, first_axis], T=_INT64, Tidx=_INT32)
    # Padding consists of copies of a row, including its ticket.
    rows = added("Size", [added("Unique", [tickets], T=_INT64, out_idx=_INT32)], T=_INT64, out_type=_INT64)
    size = added("Size", [tickets], T=_INT64, out_type=_INT64)
    columns = [
        Output(clock, 0),
        *(added("Cast", [value], SrcT=_INT64, DstT=_DOUBLE) for value in (leader, size, rows)),
    ]
    line = Output(
        operation("Pack").inputs(columns).attribute("N", _COLUMNS).attribute("axis", 0).type("T", _DOUBLE).finish(), 0
    )
    shape = added("Reshape", [size, constant([1], np.int32)], T=_INT64, Tshape=_INT32)
    whole = operation("ConcatV2").inputs([shape, constant([_COLUMNS], np.int64)]).input(constant(0, np.int32))
    whole = whole.attribute("N", 2).type("T", _INT64).type("Tidx", _INT32)
    return added("BroadcastTo", [line, Output(whole.finish(), 0)], T=_DOUBLE, Tidx=_INT64), clock


def read(result: int, first: int) -> Joined:
    """Interprets a request's rows of the batch's tensor.

    Args:
        result: a ``TF_Tensor``, float64 [rows, 4].
        first: the request's first ticket.
    """
    c = library()
    size = c.TF_TensorByteSize(result)
    if not size:  # a request without rows is answered without a run
        return Joined(time.time(), [])
    content = ctypes.string_at(c.TF_TensorData(result), size)
    lines = np.frombuffer(content, np.float64).reshape(-1, _COLUMNS)
    own = (lines[:, 1] >= first) & (lines[:, 1] < first + len(lines))
    runs = {int(leader): (int(size), int(rows)) for _, leader, size, rows in lines[own]}
    return Joined(float(lines[:, 0].min()), list(runs.values()))
