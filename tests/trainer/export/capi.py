"""Loads and runs a SavedModel by TensorFlow's C API alone: a program for a process of its own.

It stands for the stock model server's loader: no Python package of TensorFlow takes part, no op is there but
TensorFlow's own and those of the libraries that are named. It shares no code with ``serving.runtime``.

    python capi.py registry OPS [LIBRARY ...]                       writes a serialised OpList to OPS
    python capi.py run MODEL FEEDS FETCHES ANSWERS [LIBRARY ...]    FEEDS, ANSWERS: .npz; FETCHES: JSON, alias -> tensor
"""

import ctypes
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_DTYPES = {1: np.float32, 3: np.int32, 9: np.int64, 10: np.bool_}  # tensorflow/core/framework/types.proto
_STRING = 7
_TSTRING_BYTES = 24  # sizeof(TF_TString), tensorflow/core/platform/ctstring_internal.h


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("free", ctypes.c_void_p)]


def _open() -> ctypes.CDLL:
    spec = importlib.util.find_spec("tensorflow")
    assert spec is not None
    assert spec.origin is not None
    return ctypes.CDLL(str(Path(spec.origin).parent / "libtensorflow_cc.so.2"))


_TF = _open()
for _name in (
    *("TF_NewStatus", "TF_LoadLibrary", "TF_NewGraph", "TF_NewSessionOptions", "TF_LoadSessionFromSavedModel"),
    *("TF_AllocateTensor", "TF_TensorData", "TF_GraphOperationByName", "TF_StringGetDataPointer"),
):
    getattr(_TF, _name).restype = ctypes.c_void_p
for _name in ("TF_Dim", "TF_TensorByteSize", "TF_StringGetSize"):
    getattr(_TF, _name).restype = ctypes.c_size_t
_TF.TF_GetAllOpList.restype = ctypes.POINTER(_Buffer)
_TF.TF_Message.restype = ctypes.c_char_p


class _Status:
    def __init__(self) -> None:
        self.pointer = ctypes.c_void_p(_TF.TF_NewStatus())

    def check(self) -> None:
        if _TF.TF_GetCode(self.pointer):
            sys.exit(_TF.TF_Message(self.pointer).decode())


def _load(libraries: list[str]) -> None:
    for path in libraries:
        status = _Status()
        _TF.TF_LoadLibrary(path.encode(), status.pointer)
        status.check()


def _registry(path: str) -> None:
    buffer = _TF.TF_GetAllOpList().contents
    Path(path).write_bytes(ctypes.string_at(buffer.data, buffer.length))


def _run(model: str, feeds: str, fetches: str, answers: str) -> None:
    status, graph = _Status(), ctypes.c_void_p(_TF.TF_NewGraph())
    session = ctypes.c_void_p(
        _TF.TF_LoadSessionFromSavedModel(
            ctypes.c_void_p(_TF.TF_NewSessionOptions()),
            None,
            model.encode(),
            (ctypes.c_char_p * 1)(b"serve"),
            1,
            graph,
            None,
            status.pointer,
        )
    )
    status.check()
    given = dict(np.load(feeds))
    wanted: dict[str, str] = json.loads(Path(fetches).read_text(encoding="utf-8"))
    outputs = (ctypes.c_void_p * len(wanted))()
    _TF.TF_SessionRun(
        session,
        None,
        _places(graph, list(given)),
        (ctypes.c_void_p * len(given))(*(_to_tensor(value) for value in given.values())),
        len(given),
        _places(graph, list(wanted.values())),
        outputs,
        len(wanted),
        None,
        0,
        None,
        status.pointer,
    )
    status.check()
    values = {alias: _from_tensor(ctypes.c_void_p(pointer)) for alias, pointer in zip(wanted, outputs, strict=True)}
    np.savez(answers, **values)  # type: ignore[arg-type]


def _places(graph: ctypes.c_void_p, names: list[str]) -> "ctypes.Array[_Output]":
    places = (_Output * len(names))()
    for place, name in zip(places, names, strict=True):
        operation, _, index = name.partition(":")
        place.operation = _TF.TF_GraphOperationByName(graph, operation.encode())
        assert place.operation, f"no operation {operation}"
        place.index = int(index or 0)
    return places


def _to_tensor(value: npt.NDArray[Any]) -> ctypes.c_void_p:
    shape = (ctypes.c_int64 * value.ndim)(*value.shape)
    texts = value.dtype.kind == "S"
    kind = _STRING if texts else next(number for number, dtype in _DTYPES.items() if dtype == value.dtype)
    size = value.size * _TSTRING_BYTES if texts else value.nbytes
    tensor = ctypes.c_void_p(_TF.TF_AllocateTensor(kind, shape, value.ndim, ctypes.c_size_t(size)))
    data = _TF.TF_TensorData(tensor)
    if not texts:
        ctypes.memmove(data, np.ascontiguousarray(value).ctypes.data, size)
        return tensor
    for place, text in enumerate(value.ravel().tolist()):
        cell = ctypes.c_void_p(data + place * _TSTRING_BYTES)
        _TF.TF_StringInit(cell)
        _TF.TF_StringCopy(cell, text, ctypes.c_size_t(len(text)))
    return tensor


def _from_tensor(tensor: ctypes.c_void_p) -> npt.NDArray[Any]:
    shape = [_TF.TF_Dim(tensor, axis) for axis in range(_TF.TF_NumDims(tensor))]
    kind, data = _TF.TF_TensorType(tensor), _TF.TF_TensorData(tensor)
    if kind != _STRING:
        raw = ctypes.string_at(data, _TF.TF_TensorByteSize(tensor))
        return np.frombuffer(raw, _DTYPES[kind]).reshape(shape)
    texts = []
    for place in range(int(np.prod(shape))):
        cell = ctypes.c_void_p(data + place * _TSTRING_BYTES)
        texts.append(ctypes.string_at(_TF.TF_StringGetDataPointer(cell), _TF.TF_StringGetSize(cell)))
    return np.array(texts, np.bytes_).reshape(shape)


def main(arguments: list[str]) -> None:
    """Runs one of the two commands."""
    verb, *rest = arguments
    taken = 1 if verb == "registry" else 4
    _load(rest[taken:])
    (_registry if verb == "registry" else _run)(*rest[:taken])
    assert "tensorflow" not in sys.modules, "the point of this program is that TensorFlow's package takes no part"


if __name__ == "__main__":
    main(sys.argv[1:])
