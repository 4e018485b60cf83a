"""A servable that runs ``model.tflite`` of a version directory (``--prefer_tflite_model``).

It works like TensorFlow Serving's ``servables/tensorflow/tflite_session.cc`` and ``tflite_interpreter_pool.cc``: a
pool of single-threaded interpreters, inputs resized to each request's shapes, builtin ops only. The interpreter is
LiteRT's (package ``ai-edge-litert``), the successor of ``tensorflow.lite``; it does not need TensorFlow's package.
"""

import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import numpy.typing as npt

from serving.private.litert import metadata
from serving.protos import meta_graph_pb2, tensor_pb2, types_pb2
from serving.server.errors import StatusError, invalid_argument
from serving.server.execution.servable import DEFAULT_SIGNATURE, PREDICT_METHOD, Signature, read_signature
from serving.tensors import TensorParseError, numpy_dtype, to_numpy, to_proto

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

_LOGGER = logging.getLogger(__name__)
# Name under which TensorFlow's tools/signature/signature_def_util.h keeps SignatureDefs in a model.
_SIGNATURE_METADATA = "signature_defs_metadata"
_DTYPES: dict[np.dtype[Any], int] = {
    dtype: enum for enum in types_pb2.DataType.values() if (dtype := numpy_dtype(enum)) is not None
}
_Array = npt.NDArray[Any]
# Computes all outputs of a signature from all its inputs, by alias.
_Run = Callable[..., Mapping[str, _Array]]
# The interpreter's description of a tensor.
_Details = Mapping[str, Any]


class TFLiteServable:
    """A TFLite model in a pool of interpreters.

    Signatures come from the model's SignatureDefs (metadata ``signature_defs_metadata``), else from the signatures that
    the converter writes. A model without a ``serving_default`` in either gets one of its inputs and outputs, whose
    aliases are the tensors' names without ``:0``.

    Args:
        path: the version directory.
        model: the file.
        interpreters: number of interpreters, which is how many requests run concurrently.

    Raises:
        StatusError: INVALID_ARGUMENT, the file is not a runnable model; FAILED_PRECONDITION, LiteRT is missing.
    """

    def __init__(self, path: Path, model: Path, interpreters: int) -> None:
        self.path = path
        make_interpreter = _interpreter_type()
        content = model.read_bytes()
        definitions = _metadata_signatures(content, model)

        def make() -> _Worker:
            try:
                return _Worker(make_interpreter(model_content=content, num_threads=1), definitions)
            except (RuntimeError, ValueError) as error:
                raise invalid_argument(f"{model} can't be run: {error}") from None

        self._make = make
        # The most recently used one has the warmest cache.
        self._free: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(max(interpreters, 1)):
            worker = make()
            self._free.put(worker)
        self._inputs = worker.inputs
        self.signature_defs: dict[str, meta_graph_pb2.SignatureDef] = worker.signature_defs
        self.signatures: dict[str, Signature] = {key: read_signature(d) for key, d in self.signature_defs.items()}
        _LOGGER.info(
            "%s has signatures %s and %d interpreters", model, ", ".join(sorted(self.signatures)), max(interpreters, 1)
        )

    def run(
        self,
        signature: str,
        inputs: Mapping[str, tensor_pb2.TensorProto],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> dict[str, tensor_pb2.TensorProto]:
        """See ``Servable.run``; a run that has begun is not cancelled."""
        arrays = {alias: self._array(signature, alias, inputs[alias]) for alias in self.signatures[signature].inputs}
        with self._worker(timeout) as worker:
            results = worker.run(signature, arrays)
            return {alias: to_proto(results[alias]) for alias in outputs}

    def run_serialized(
        self,
        signature: str,
        inputs: Mapping[str, tensor_pb2.TensorProto],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
        alone: bool = False,
    ) -> dict[str, bytes]:
        """See ``Servable.run_serialized``; every request runs alone."""
        results = self.run(signature, inputs, outputs, timeout=timeout)
        return {alias: bytes(proto.SerializeToString()) for alias, proto in results.items()}

    def close(self) -> None:
        """See ``Servable.close``."""
        while not self._free.empty():
            self._free.get_nowait()

    def _array(self, signature: str, alias: str, proto: tensor_pb2.TensorProto) -> _Array:
        try:
            array = to_numpy(proto)
        except TensorParseError as error:
            raise invalid_argument(f"tensor parsing error: {alias} ({error})") from None
        details = self._inputs[signature][alias]
        wanted = [int(size) for size in details["shape_signature"]]
        # TensorFlow Serving leaves all of this to the interpreter, which accepts some mismatched shapes and then
        # computes nonsense. A shape without any free size may come from a conversion at one batch size: it is tried.
        fits = len(wanted) == array.ndim and (
            -1 not in wanted or all(want in (-1, size) for want, size in zip(wanted, array.shape, strict=True))
        )
        if wanted and not fits:
            raise invalid_argument(
                f'input "{alias}" has shape {list(array.shape)}, the model takes {wanted} (-1: any size)'
            )
        return array

    @contextmanager
    def _worker(self, timeout: float | None) -> Iterator["_Worker"]:
        start = time.monotonic()
        try:
            worker = self._free.get(timeout=timeout)
        except queue.Empty:
            waited = time.monotonic() - start
            raise StatusError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"all TFLite interpreters were busy for {waited:.1f} s"
            ) from None
        try:
            yield worker
        finally:
            self._free.put(self._make() if worker.has_failed else worker)


class _Worker:
    """An interpreter with its signatures; not thread-safe.

    Attributes:
        signature_defs: SignatureDef protos by key.
        inputs: details of the input tensors, by key and alias.
        has_failed: a run has failed, and the interpreter's state may be unusable.
    """

    def __init__(self, interpreter: "Interpreter", definitions: Mapping[str, meta_graph_pb2.SignatureDef]) -> None:
        self._interpreter = interpreter
        self.signature_defs: dict[str, meta_graph_pb2.SignatureDef] = {}
        self.inputs: dict[str, Mapping[str, _Details]] = {}
        self.has_failed = False
        self._runs: dict[str, _Run] = {}
        interpreter.allocate_tensors()
        tensors = interpreter.get_input_details(), interpreter.get_output_details()
        for key, definition in definitions.items():
            inputs = _resolve(key, "input", definition.inputs, tensors[0])
            outputs = _resolve(key, "output", definition.outputs, tensors[1])
            self._add(key, definition, inputs, self._primary(inputs, outputs))
        if definitions:
            return
        for key in filter(None, interpreter.get_signature_list()):
            runner = interpreter.get_signature_runner(key)
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
            self._add(key, _definition(inputs, outputs), inputs, runner)
        if DEFAULT_SIGNATURE not in self._runs:
            inputs, outputs = _by_name(tensors[0]), _by_name(tensors[1])
            self._add(DEFAULT_SIGNATURE, _definition(inputs, outputs), inputs, self._primary(inputs, outputs))

    def run(self, signature: str, arrays: Mapping[str, _Array]) -> Mapping[str, _Array]:
        """Computes all outputs of a signature.

        Raises:
            StatusError: INVALID_ARGUMENT, the values are not accepted; INTERNAL, the model failed.
        """
        try:
            return self._runs[signature](**arrays)
        except (ValueError, OverflowError) as error:
            raise invalid_argument(str(error)) from None
        except RuntimeError as error:
            self.has_failed = True
            shapes = ", ".join(f"{alias}: {list(array.shape)}" for alias, array in arrays.items())
            raise StatusError(
                grpc.StatusCode.INTERNAL, f"Failed to invoke TfLite interpreter: {error} [input shapes: {shapes}]"
            ) from None

    def _add(
        self, key: str, definition: meta_graph_pb2.SignatureDef, inputs: Mapping[str, _Details], run: _Run
    ) -> None:
        self.signature_defs[key] = definition
        self.inputs[key] = inputs
        self._runs[key] = run

    def _primary(self, inputs: Mapping[str, _Details], outputs: Mapping[str, _Details]) -> _Run:
        interpreter = self._interpreter
        feeds = {alias: details["index"] for alias, details in inputs.items()}
        fetches = {alias: details["index"] for alias, details in outputs.items()}

        def run(**arrays: _Array) -> dict[str, _Array]:
            for alias, array in arrays.items():
                interpreter.resize_tensor_input(feeds[alias], array.shape)
            interpreter.allocate_tensors()
            for alias, array in arrays.items():
                interpreter.set_tensor(feeds[alias], array)
            interpreter.invoke()
            return {alias: interpreter.get_tensor(index) for alias, index in fetches.items()}

        return run


def _interpreter_type() -> "type[Interpreter]":
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise StatusError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"model.tflite needs LiteRT ({error}). Remedy: `pip install 'babelrec[tflite]'`, or leave out "
            "--prefer_tflite_model",
        ) from None
    interpreter: type[Interpreter] = Interpreter
    return interpreter


def _metadata_signatures(content: bytes, model: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    """SignatureDefs that TensorFlow's tools stored in the model: a FlexBuffer map of serialised protos."""
    if _SIGNATURE_METADATA.encode() not in content:
        return {}
    from flatbuffers import flexbuffers  # type: ignore[import-untyped]

    try:
        data = metadata(content, _SIGNATURE_METADATA)
        if data is None:
            return {}
        entries = flexbuffers.GetRoot(data).AsMap
        return {
            key.AsKey: meta_graph_pb2.SignatureDef.FromString(entries[key.AsKey].AsStringBytes) for key in entries.Keys
        }
    except Exception as error:
        raise invalid_argument(f"Invalid SignatureDefs found in TfLite model {model}: {error}") from None


def _resolve(
    key: str, kind: str, infos: Mapping[str, meta_graph_pb2.TensorInfo], tensors: Sequence[_Details]
) -> dict[str, _Details]:
    """The tensors that a SignatureDef names; older converters left out the ``:0`` of their names."""
    by_name = {details["name"]: details for details in tensors}
    found = {}
    for alias, info in infos.items():
        details = by_name.get(info.name) or by_name.get(info.name.partition(":")[0])
        if details is None:
            raise invalid_argument(
                f"Signature {kind} {alias} references an unknown tensor: {info.name} (signature {key}, known: "
                f"{', '.join(sorted(by_name))})"
            )
        info.name = details["name"]
        found[alias] = details
    return found


def _by_name(tensors: Sequence[_Details]) -> dict[str, _Details]:
    short = [details["name"].partition(":")[0] for details in tensors]
    return {
        name if short.count(name) == 1 else details["name"]: details
        for name, details in zip(short, tensors, strict=True)
    }


def _definition(inputs: Mapping[str, _Details], outputs: Mapping[str, _Details]) -> meta_graph_pb2.SignatureDef:
    definition = meta_graph_pb2.SignatureDef(method_name=PREDICT_METHOD)
    for infos, tensors in ((definition.inputs, inputs), (definition.outputs, outputs)):
        for alias, details in tensors.items():
            dtype = np.dtype(details["dtype"])
            enum = types_pb2.DT_STRING if dtype.kind == "S" else _DTYPES.get(dtype)
            if enum is None:
                raise ValueError(f"tensor {details['name']} is of type {dtype}, which can't be sent")
            infos[alias].name = details["name"]
            infos[alias].dtype = enum
            infos[alias].tensor_shape.SetInParent()
            for size in details["shape_signature"]:
                infos[alias].tensor_shape.dim.add(size=int(size))
    return definition
