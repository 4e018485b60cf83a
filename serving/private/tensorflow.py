"""The functions of TensorFlow's C API that serving needs, via ctypes (``tensorflow/c/c_api.h``).

The libraries are in TensorFlow's wheel; the package itself is never imported. Long calls release the GIL; short ones
keep it, since losing it to another thread costs more than the call.
"""

import contextlib
import ctypes
import functools
import importlib.util
import os
from collections.abc import Iterable, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_uint8, c_void_p
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from serving.private.interfaces import Interface

_RUNTIME = "libtensorflow_cc.so.2"
_FRAMEWORK = "libtensorflow_framework.so.2"
WORKS = "2.20"
"""Versions that are known to have all that is used here."""
_ERRORS_ONLY = 3  # value of TF_CPP_MIN_LOG_LEVEL, which counts the suppressed severities
# The name includes Abseil's release.
_ABSEIL_LEVEL = "_ZN4absl12lts_2025012714SetMinLogLevelENS0_18LogSeverityAtLeastE"
_ABSEIL_ERROR = 2


class Buffer(ctypes.Structure):
    """``TF_Buffer``: bytes and their deallocator."""

    _fields_ = [("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p)]


class Output(ctypes.Structure):
    """``TF_Output``: one output of an operation of a graph."""

    _fields_ = [("oper", c_void_p), ("index", c_int)]


_OUTPUTS = POINTER(Output)
_POINTERS = POINTER(c_void_p)
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "TF_Version": (c_char_p, []),
    "TF_NewStatus": (c_void_p, []),
    "TF_DeleteStatus": (None, [c_void_p]),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_NewBuffer": (POINTER(Buffer), []),
    "TF_DeleteBuffer": (None, [POINTER(Buffer)]),
    "TF_LoadLibrary": (c_void_p, [c_char_p, c_void_p]),
    "TF_GetAllOpList": (POINTER(Buffer), []),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_SetConfig": (None, [c_void_p, c_char_p, c_size_t, c_void_p]),
    "TF_DeleteSessionOptions": (None, [c_void_p]),
    "TF_NewGraph": (c_void_p, []),
    "TF_DeleteGraph": (None, [c_void_p]),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        [c_void_p, POINTER(Buffer), c_char_p, POINTER(c_char_p), c_int, c_void_p, POINTER(Buffer), c_void_p],
    ),
    "TF_NewSession": (c_void_p, [c_void_p, c_void_p, c_void_p]),
    "TF_CloseSession": (None, [c_void_p, c_void_p]),
    "TF_DeleteSession": (None, [c_void_p, c_void_p]),
    "TF_ExtendSession": (None, [c_void_p, c_void_p]),
    "TF_SessionRun": (
        None,
        [
            c_void_p,
            POINTER(Buffer),
            _OUTPUTS,
            _POINTERS,
            c_int,
            _OUTPUTS,
            _POINTERS,
            c_int,
            c_void_p,
            c_int,
            c_void_p,
            c_void_p,
        ],
    ),
    "TF_NewCheckpointReader": (c_void_p, [c_char_p, c_void_p]),
    "TF_DeleteCheckpointReader": (None, [c_void_p]),
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_TensorFromProto": (None, [POINTER(Buffer), c_void_p, c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_TensorByteSize": (c_size_t, [c_void_p]),
    "TF_TensorElementCount": (c_int64, [c_void_p]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
    "TF_GraphNextOperation": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "TF_OperationName": (c_char_p, [c_void_p]),
    "TF_OperationOpType": (c_char_p, [c_void_p]),
    "TF_OperationGetAttrValueProto": (None, [c_void_p, c_char_p, POINTER(Buffer), c_void_p]),
    "TF_OperationNumInputs": (c_int, [c_void_p]),
    "TF_OperationAllInputs": (None, [c_void_p, _OUTPUTS, c_int]),
    "TF_OperationNumControlInputs": (c_int, [c_void_p]),
    "TF_OperationGetControlInputs": (c_int, [c_void_p, _POINTERS, c_int]),
    "TF_OperationNumOutputs": (c_int, [c_void_p]),
    "TF_OperationOutputType": (c_int, [Output]),
    "TF_NewOperation": (c_void_p, [c_void_p, c_char_p, c_char_p]),
    "TF_AddInput": (None, [c_void_p, Output]),
    "TF_AddControlInput": (None, [c_void_p, c_void_p]),
    "TF_AddInputList": (None, [c_void_p, _OUTPUTS, c_int]),
    "TF_SetAttrInt": (None, [c_void_p, c_char_p, c_int64]),
    "TF_SetAttrIntList": (None, [c_void_p, c_char_p, POINTER(c_int64), c_int]),
    "TF_SetAttrBool": (None, [c_void_p, c_char_p, c_uint8]),
    "TF_SetAttrString": (None, [c_void_p, c_char_p, c_char_p, c_size_t]),
    "TF_SetAttrStringList": (None, [c_void_p, c_char_p, POINTER(c_char_p), POINTER(c_size_t), c_int]),
    "TF_SetAttrType": (None, [c_void_p, c_char_p, c_int]),
    "TF_SetAttrTypeList": (None, [c_void_p, c_char_p, POINTER(c_int), c_int]),
    "TF_SetAttrFuncName": (None, [c_void_p, c_char_p, c_char_p, c_size_t]),
    "TF_SetAttrTensor": (None, [c_void_p, c_char_p, c_void_p, c_void_p]),
    "TF_SetAttrShape": (None, [c_void_p, c_char_p, POINTER(c_int64), c_int]),
    "TF_FinishOperation": (c_void_p, [c_void_p, c_void_p]),
    "TF_GraphToFunction": (
        c_void_p,
        [
            c_void_p,
            c_char_p,
            c_uint8,
            c_int,
            _POINTERS,
            c_int,
            _OUTPUTS,
            c_int,
            _OUTPUTS,
            c_void_p,
            c_void_p,
            c_char_p,
            c_void_p,
        ],
    ),
    "TF_GraphCopyFunction": (None, [c_void_p, c_void_p, c_void_p, c_void_p]),
    "TF_DeleteFunction": (None, [c_void_p]),
    "TF_FunctionName": (c_char_p, [c_void_p]),
    "TF_FunctionToFunctionDef": (None, [c_void_p, POINTER(Buffer), c_void_p]),
    "TF_FunctionImportFunctionDef": (c_void_p, [c_char_p, c_size_t, c_void_p]),
    "TF_GraphNumFunctions": (c_int, [c_void_p]),
    "TF_GraphGetFunctions": (c_int, [c_void_p, _POINTERS, c_int, c_void_p]),
}
"""Result and argument types, by function name."""

_LONG = frozenset(
    {
        "TF_LoadLibrary",
        "TF_LoadSessionFromSavedModel",
        "TF_NewCheckpointReader",
        "TF_NewSession",
        "TF_CloseSession",
        "TF_DeleteSession",
        "TF_DeleteGraph",
        "TF_ExtendSession",
        "TF_SessionRun",
        "TF_GraphToFunction",
        "TF_GraphCopyFunction",
    }
)


def _file(name: str) -> Path:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the model server needs TensorFlow's libraries. Remedy: `pip install tensorflow`.")
    return Path(spec.submodule_search_locations[0]) / name


def library_path() -> Path:
    """The file of TensorFlow's C API.

    Raises:
        ImportError: TensorFlow is not installed.
    """
    return _file(_RUNTIME)


@functools.cache
def _loaded() -> ctypes.CDLL:
    # Local symbols: the library exports a BoringSSL that must not shadow the OpenSSL of Python's own modules. Op
    # libraries find their dependencies by the sonames they were linked with.
    return ctypes.CDLL(str(library_path()), mode=ctypes.RTLD_LOCAL)


@functools.cache
def library() -> SimpleNamespace:
    """TensorFlow's C API, loaded on the first call.

    Raises:
        ImportError: TensorFlow is not installed.
    """
    long, short = _loaded(), ctypes.PyDLL(str(library_path()), mode=ctypes.RTLD_LOCAL)
    functions = SimpleNamespace()
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(long if name in _LONG else short, name)
        function.restype = result
        function.argtypes = arguments
        setattr(functions, name, function)
    _keep_quiet(long)
    return functions


def framework() -> ctypes.CDLL:
    """The library with TensorFlow's common parts, for its C++ functions.

    Raises:
        ImportError: TensorFlow is not installed.
    """
    _loaded()  # loads the framework too
    return ctypes.CDLL(str(_file(_FRAMEWORK)), mode=ctypes.RTLD_LOCAL)


def _keep_quiet(loaded: ctypes.CDLL) -> None:
    """Limits the parts of TensorFlow that log through Abseil, and ignore TF_CPP_MIN_LOG_LEVEL, to errors."""
    if int(os.environ.get("TF_CPP_MIN_LOG_LEVEL") or 0) < _ERRORS_ONLY:
        return
    with contextlib.suppress(AttributeError):
        getattr(loaded, _ABSEIL_LEVEL)(_ABSEIL_ERROR)


def buffer_of(content: bytes) -> Buffer:
    """A ``TF_Buffer`` over bytes, which must outlive it."""
    return Buffer(ctypes.cast(c_char_p(content), c_void_p), len(content), None)


class TensorFlowError(Exception):
    """A TensorFlow call failed.

    Attributes:
        error_code: number of the canonical status code.
        message: TensorFlow's message.
    """

    def __init__(self, error_code: int, message: str) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.message = message


class Status:
    """A ``TF_Status`` for one ``with`` block; pass ``pointer`` to calls and ``check`` afterwards."""

    def __init__(self) -> None:
        self._library = library()

    def __enter__(self) -> Self:
        """Creates it."""
        self.pointer = self._library.TF_NewStatus()
        return self

    def __exit__(self, *_: object) -> None:
        """Frees it."""
        self._library.TF_DeleteStatus(self.pointer)

    def check(self) -> None:
        """Raises TensorFlowError unless the last call succeeded."""
        code = self._library.TF_GetCode(self.pointer)
        if code:
            raise TensorFlowError(code, self._library.TF_Message(self.pointer).decode("utf-8", "replace"))


def load_op_library(path: Path) -> None:
    """Registers the ops and kernels of a shared library; doing so twice is harmless.

    Raises:
        TensorFlowError: it can't be loaded.
    """
    with Status() as status:
        library().TF_LoadLibrary(str(path).encode(), status.pointer)
        status.check()


def output_array(outputs: Sequence[Output]) -> ctypes.Array[Output]:
    """A C array of ``TF_Output``."""
    return (Output * len(outputs))(*outputs)


def _missing(names: Iterable[str]) -> list[str]:
    try:
        loaded = _loaded()
    except (ImportError, OSError) as error:
        return [f"{_RUNTIME} ({error})"]
    return [name for name in names if not hasattr(loaded, name)]


INTERFACES = (
    Interface("tensorflow", WORKS, "to run models", lambda: _missing(SIGNATURES)),
    Interface(
        "tensorflow", WORKS, "to keep it quiet", lambda: _missing([_ABSEIL_LEVEL]), "TensorFlow logs more messages"
    ),
)
