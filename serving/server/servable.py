"""A loaded SavedModel: its signatures and a thread-safe way to run them."""

import ctypes
import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from serving.tensors import string_array

_LOGGER = logging.getLogger(__name__)
_STRING = tf.string.as_datatype_enum
# Compiled callables kept per model. A signature of n outputs has 2^n possible output filters.
_MAX_CALLABLES = 64
_Key = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        name: the tensor's name in the graph.
        dtype: TensorFlow's DataType number.
        shape: sizes, -1 where free; None when even the rank is free.
    """

    name: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A SignatureDef in the form that serving a request needs.

    Attributes:
        method_name: TensorFlow Serving's method this signature is made for.
        inputs: by alias.
        outputs: by alias.
        defaults: values of inputs that a request may leave out, as TensorProtos by alias.
    """

    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    defaults: Mapping[str, Any]


class SavedModelServable:
    """A SavedModel in a graph and session of its own.

    The TensorFlow 1 loader takes TF1 and TF2 SavedModels alike and runs their initialisers. Signatures run
    through session callables: pruned to the fetched outputs, thread-safe, and without the GIL.

    Args:
        path: the version directory.
        tags: tags of the meta graph to load.
        session_config: a ``tensorflow.ConfigProto``.

    Raises:
        Exception: TensorFlow's own errors when the model can't be loaded.
    """

    def __init__(self, path: Path, tags: Sequence[str], session_config: Any) -> None:
        self.path = path
        graph = tf.Graph()
        self._session: Any = tf.compat.v1.Session(graph=graph, config=session_config)
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.loader.load(self._session, list(tags), str(path))
        except BaseException:
            self._session.close()
            raise
        self.signature_defs: dict[str, Any] = dict(meta_graph.signature_def)
        self.signatures = {key: _signature(value) for key, value in self.signature_defs.items()}
        self._callables: OrderedDict[_Key, _Callable] = OrderedDict()
        self._callables_lock = threading.Lock()

    def run(self, feeds: Mapping[str, npt.NDArray[Any]], fetches: Sequence[TensorSpec]) -> list[npt.NDArray[Any]]:
        """Computes tensors of the graph.

        Args:
            feeds: values by graph tensor name.
            fetches: what to compute.

        Returns:
            One array per fetch, in order; strings as ``object`` arrays of ``bytes``.

        Raises:
            tf.errors.OpError: the graph refused the values.
        """
        names = list(dict.fromkeys(spec.name for spec in fetches))
        call = self._callable(tuple(feeds), tuple(names))
        results = dict(zip(names, call(*feeds.values()), strict=True))
        return [_as_array(results[spec.name], spec.dtype) for spec in fetches]

    def close(self) -> None:
        """Frees the model's memory; nothing may run any more."""
        self._callables.clear()
        self._session.close()
        self._session = None
        # Python's graph objects form cycles, and malloc keeps freed arenas until told otherwise.
        gc.collect()
        _trim_memory()

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        key = (feeds, fetches)
        with self._callables_lock:
            entry = self._callables.get(key)
            if entry is None:
                entry = self._callables[key] = _Callable()
                if len(self._callables) > _MAX_CALLABLES:
                    self._callables.popitem(last=False)
            else:
                self._callables.move_to_end(key)
        return entry.get(self._session, feeds, fetches)


class _Callable:
    """A session callable, made at its first use.

    Pruning and optimising the graph takes seconds for a large one; only requests for the same outputs
    wait for it, not those that other callables answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._call: Any = None

    def get(self, session: Any, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        if self._call is None:
            with self._lock:
                if self._call is None:
                    options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
                    self._call = session._make_callable_from_options(options)
        return self._call


def _signature(definition: Any) -> Signature:
    return Signature(
        method_name=definition.method_name,
        inputs={alias: _spec(info) for alias, info in sorted(definition.inputs.items())},
        outputs={alias: _spec(info) for alias, info in sorted(definition.outputs.items())},
        defaults=dict(definition.defaults),
    )


def _spec(info: Any) -> TensorSpec:
    shape = None if info.tensor_shape.unknown_rank else tuple(d.size for d in info.tensor_shape.dim)
    return TensorSpec(info.name, info.dtype, shape)


def _as_array(value: Any, dtype: int) -> npt.NDArray[Any]:
    # A session returns scalars bare; np.asarray would make a fixed-width string of bytes.
    return string_array(value) if dtype == _STRING and isinstance(value, bytes) else np.asarray(value)


def _trim_memory() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
