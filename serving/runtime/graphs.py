"""Building and walking graphs through the C API."""

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import numpy.typing as npt

from serving.private.tensorflow import Output, Status, library, output_array
from serving.protos import attr_value_pb2, function_pb2
from serving.runtime.tensors import tensor_from_proto
from serving.tensors import to_proto


class Operation:
    """Describes an operation that is being added to a graph; ``finish`` adds it."""

    def __init__(self, graph: int, kind: str, name: str) -> None:
        self._c = library()
        self._description = self._c.TF_NewOperation(graph, kind.encode(), name.encode())

    def input(self, tensor: Output) -> "Operation":
        """Adds an input."""
        self._c.TF_AddInput(self._description, tensor)
        return self

    def inputs(self, tensors: Sequence[Output]) -> "Operation":
        """Adds an input that is a list."""
        self._c.TF_AddInputList(self._description, output_array(tensors), len(tensors))
        return self

    def after(self, operation: int) -> "Operation":
        """Adds a control dependency on another operation."""
        self._c.TF_AddControlInput(self._description, operation)
        return self

    def attribute(self, name: str, value: int | bool | str | Sequence[int]) -> "Operation":
        """Sets an attribute; the Python type determines its kind."""
        key = name.encode()
        if isinstance(value, bool):
            self._c.TF_SetAttrBool(self._description, key, value)
        elif isinstance(value, int):
            self._c.TF_SetAttrInt(self._description, key, value)
        elif isinstance(value, str):
            text = value.encode()
            self._c.TF_SetAttrString(self._description, key, text, len(text))
        else:
            self._c.TF_SetAttrIntList(self._description, key, (c_int64 * len(value))(*value), len(value))
        return self

    def texts(self, name: str, values: Sequence[str]) -> "Operation":
        """Sets an attribute that is a list of strings."""
        texts = [value.encode() for value in values]
        count = len(texts)
        lengths = (c_size_t * count)(*map(len, texts))
        self._c.TF_SetAttrStringList(self._description, name.encode(), (c_char_p * count)(*texts), lengths, count)
        return self

    def type(self, name: str, dtype: int) -> "Operation":
        """Sets an attribute that is a DataType."""
        self._c.TF_SetAttrType(self._description, name.encode(), dtype)
        return self

    def types(self, name: str, dtypes: Sequence[int]) -> "Operation":
        """Sets an attribute that is a list of DataTypes."""
        self._c.TF_SetAttrTypeList(self._description, name.encode(), (c_int * len(dtypes))(*dtypes), len(dtypes))
        return self

    def function(self, name: str, function: str) -> "Operation":
        """Sets an attribute that is a function of the graph."""
        text = function.encode()
        self._c.TF_SetAttrFuncName(self._description, name.encode(), text, len(text))
        return self

    def tensor(self, name: str, value: npt.NDArray[Any]) -> "Operation":
        """Sets an attribute that is a tensor."""
        pointer = tensor_from_proto(to_proto(value))
        with Status() as status:
            self._c.TF_SetAttrTensor(self._description, name.encode(), pointer, status.pointer)
            self._c.TF_DeleteTensor(pointer)
            status.check()
        return self

    def finish(self) -> int:
        """Adds the operation and returns it.

        Raises:
            TensorFlowError: TensorFlow refuses it.
        """
        with Status() as status:
            operation = self._c.TF_FinishOperation(self._description, status.pointer)
            status.check()
        return int(operation)


def constant(graph: int, name: str, value: npt.NDArray[Any]) -> Output:
    """Adds a constant."""
    dtype = to_proto(value).dtype
    return Output(Operation(graph, "Const", name).tensor("value", value).type("dtype", dtype).finish(), 0)


def placeholder(graph: int, name: str, dtype: int) -> Output:
    """Adds a placeholder of unknown shape."""
    return Output(Operation(graph, "Placeholder", name).type("dtype", dtype).finish(), 0)


def add_function(
    source: int, target: int, name: str, body: Sequence[int], inputs: Sequence[Output], outputs: Sequence[Output]
) -> None:
    """Copies operations of one graph into another (or the same) graph as a function.

    Args:
        source: the ``TF_Graph`` with the operations.
        target: the ``TF_Graph`` that gets the function.
        name: the function's name.
        body: all operations that ``outputs`` need, back to ``inputs``.
        inputs: tensors that become the function's arguments.
        outputs: tensors that become its results.

    Raises:
        TensorFlowError: these operations can't be a function.
    """
    c = library()
    with Status() as status:
        function = c.TF_GraphToFunction(
            source,
            name.encode(),
            0,
            len(body),
            (c_void_p * len(body))(*body),
            len(inputs),
            output_array(inputs),
            len(outputs),
            output_array(outputs),
            None,
            None,
            None,
            status.pointer,
        )
        status.check()
        c.TF_GraphCopyFunction(target, function, None, status.pointer)
        c.TF_DeleteFunction(function)
        status.check()


def function_definition(graph: int, name: str) -> function_pb2.FunctionDef:
    """The ``FunctionDef`` of a function of the graph.

    Raises:
        KeyError: there is no function of that name.
        TensorFlowError: TensorFlow can't return it.
    """
    c = library()
    count = c.TF_GraphNumFunctions(graph)
    functions = (c_void_p * count)()
    buffer = c.TF_NewBuffer()
    try:
        with Status() as status:
            c.TF_GraphGetFunctions(graph, functions, count, status.pointer)
            status.check()
            for function in functions:
                if c.TF_FunctionName(function) == name.encode():
                    c.TF_FunctionToFunctionDef(function, buffer, status.pointer)
                    status.check()
                    content = ctypes.string_at(buffer.contents.data, buffer.contents.length)
                    return function_pb2.FunctionDef.FromString(content)
    finally:
        c.TF_DeleteBuffer(buffer)
        for function in functions:
            c.TF_DeleteFunction(function)
    raise KeyError(name)


def import_function(graph: int, definition: function_pb2.FunctionDef) -> None:
    """Adds a ``FunctionDef`` to a graph.

    Raises:
        TensorFlowError: TensorFlow refuses it.
    """
    c = library()
    content = definition.SerializeToString()
    with Status() as status:
        function = c.TF_FunctionImportFunctionDef(content, len(content), status.pointer)
        status.check()
        c.TF_GraphCopyFunction(graph, function, None, status.pointer)
        c.TF_DeleteFunction(function)
        status.check()


def operation_type(operation: int) -> str:
    """The op's name: ``MatMul``."""
    return str(library().TF_OperationOpType(operation).decode())


def operation_name(operation: int) -> str:
    """The operation's name in its graph."""
    return str(library().TF_OperationName(operation).decode())


def called_function(operation: int) -> str:
    """Name of the function that a call operation runs."""
    c = library()
    buffer = c.TF_NewBuffer()
    try:
        with Status() as status:
            c.TF_OperationGetAttrValueProto(operation, b"f", buffer, status.pointer)
            status.check()
        content = ctypes.string_at(buffer.contents.data, buffer.contents.length)
    finally:
        c.TF_DeleteBuffer(buffer)
    return str(attr_value_pb2.AttrValue.FromString(content).func.name)


def input_tensors(operation: int) -> list[Output]:
    """The tensors an operation takes."""
    c = library()
    count = c.TF_OperationNumInputs(operation)
    found = output_array([Output()] * count)
    c.TF_OperationAllInputs(operation, found, count)
    return list(found)


def control_inputs(operation: int) -> list[int]:
    """The operation's control dependencies."""
    c = library()
    count = c.TF_OperationNumControlInputs(operation)
    found = (c_void_p * count)()
    c.TF_OperationGetControlInputs(operation, found, count)
    return list(found)


def output_count(operation: int) -> int:
    """Number of tensors that an operation outputs."""
    return int(library().TF_OperationNumOutputs(operation))


def output_type(tensor: Output) -> int:
    """DataType of a tensor; reference types are above 100."""
    return int(library().TF_OperationOutputType(tensor))


def operations(graph: int) -> Iterator[int]:
    """All operations of a graph."""
    position = c_size_t(0)
    while operation := library().TF_GraphNextOperation(graph, position):
        yield operation
