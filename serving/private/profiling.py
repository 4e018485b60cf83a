"""``tsl::ProfilerSession``, which records what TensorFlow does in this process.

It is a C++ class; the few functions that are needed are exported by ``libtensorflow_framework.so.2`` and called by
their mangled names. (TensorFlow's Python binding to it ignores its options and imports the whole package.)
"""

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_bool, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from types import SimpleNamespace
from typing import Any

from serving.private.interfaces import Interface, MissingInterfaceError
from serving.private.tensorflow import WORKS, Status, framework


class OptionsError(ValueError):
    """The options of a session can't be read."""


class SizeError(ValueError):
    """A profile is larger than a message can be."""


class _Object(Structure):
    """A non-trivial value returned by a C++ function: an absl::Status, a std::unique_ptr.

    The caller allocates it and passes its address, which ctypes also does for structures of this size.
    The objects themselves are one pointer wide.
    """

    _fields_ = [("value", c_void_p), ("_room", c_uint64 * 7)]


_P = c_void_p
_FUNCTIONS: dict[str, tuple[str, Any, list[Any]]] = {
    "new_options": ("_ZN6google8protobuf5Arena16DefaultConstructIN10tensorflow14ProfileOptionsEEEPvPS1_", _P, [_P]),
    "delete_options": ("_ZN10tensorflow14ProfileOptionsD0Ev", None, [_P]),
    "parse": ("_ZN6google8protobuf11MessageLite14ParseFromArrayEPKvi", c_bool, [_P, c_char_p, c_int]),
    "new_space": ("_ZN6google8protobuf5Arena16DefaultConstructIN10tensorflow8profiler6XSpaceEEEPvPS1_", _P, [_P]),
    "delete_space": ("_ZN10tensorflow8profiler6XSpaceD0Ev", None, [_P]),
    "space_size": ("_ZNK10tensorflow8profiler6XSpace12ByteSizeLongEv", c_size_t, [_P]),
    "space_is_empty": ("_ZN3tsl8profiler7IsEmptyERKN10tensorflow8profiler6XSpaceE", c_bool, [_P]),
    "serialize": ("_ZNK6google8protobuf11MessageLite16SerializeToArrayEPvi", c_bool, [_P, _P, c_int]),
    "create_session": ("_ZN3tsl15ProfilerSession6CreateERKN10tensorflow14ProfileOptionsE", _Object, [_P]),
    "session_status": ("_ZN3tsl15ProfilerSession6StatusEv", _Object, [_P]),
    "collect": ("_ZN3tsl15ProfilerSession11CollectDataEPN10tensorflow8profiler6XSpaceE", _Object, [_P, _P]),
    "destroy_session": ("_ZN3tsl15ProfilerSessionD1Ev", None, [_P]),
    "free": ("_ZdlPv", None, [_P]),
    "copy_status": (
        "_ZN3tsl25Set_TF_Status_from_StatusEP10TSL_StatusRKN4absl12lts_202501276StatusE",
        None,
        [_P, POINTER(_Object)],
    ),
}


def _missing() -> list[str]:
    try:
        loaded = framework()
    except (ImportError, OSError) as error:
        return [str(error)]
    return [symbol for symbol, _, _ in _FUNCTIONS.values() if not hasattr(loaded, symbol)]


INTERFACES = (Interface("tensorflow", WORKS, "to profile", _missing, "The profiler answers UNIMPLEMENTED"),)


@functools.cache
def _runtime() -> SimpleNamespace:
    for interface in INTERFACES:
        problem = interface.problem()
        if problem is not None:
            raise MissingInterfaceError(problem)
    loaded, functions = framework(), SimpleNamespace()
    for name, (symbol, result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, symbol)
        function.restype = result
        function.argtypes = arguments
        setattr(functions, name, function)
    return functions


def _check(status: _Object) -> None:
    # absl::Status. The few bytes of an error's text are leaked: there is no function to free them.
    with Status() as copy:
        _runtime().copy_status(copy.pointer, status)
        copy.check()


@contextmanager
def session(options: bytes) -> Iterator[int]:
    """A ``tsl::ProfilerSession`` that records from now to the end of the block.

    Args:
        options: a serialised ``ProfileOptions``.

    Raises:
        MissingInterfaceError: this TensorFlow has no such class.
        OptionsError: they are malformed.
        TensorFlowError: it could not begin; usually ALREADY_EXISTS, another one is running.
    """
    c = _runtime()
    proto = c.new_options(None)
    try:
        if not c.parse(proto, options, len(options)):
            raise OptionsError("opts can't be read")
        recording = c.create_session(proto).value
    finally:
        c.delete_options(proto)
    try:
        _check(c.session_status(recording))
        yield recording
    finally:
        c.destroy_session(recording)
        c.free(recording)


def collect(recording: int) -> tuple[memoryview, bool]:
    """Ends a session; returns the serialised XSpace and whether nothing was recorded.

    Raises:
        SizeError: there is more than fits in a message.
    """
    c = _runtime()
    space = c.new_space(None)
    try:
        _check(c.collect(recording, space))
        size = c.space_size(space)
        content = bytearray(size)
        if not c.serialize(space, (ctypes.c_char * size).from_buffer(content), min(size, 2**31 - 1)):
            raise SizeError(f"the profile has {size} bytes")
        return memoryview(content), c.space_is_empty(space)
    finally:
        c.delete_space(space)
