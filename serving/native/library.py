"""The compiled library (``src/``), via ctypes."""

import ctypes
import functools
import importlib.machinery
import os
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from serving.private.interfaces import installed
from serving.private.tensorflow import SIGNATURES, WORKS, Output, library, library_path

_REMEDY = "`apt-get install g++ libgrpc-dev libprotozero-dev`, then install this package again"
# TensorFlow's library exports its built-in gRPC, and its Python package makes that globally visible: without
# RTLD_DEEPBIND gRPC's C library would call into that copy, which is another version.
_MODE = os.RTLD_LOCAL | os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "babelrec_load": (c_int, [c_char_p]),
    "babelrec_grpc_version": (c_char_p, []),
    "babelrec_front_new": (
        c_void_p,
        [
            *[c_char_p] * 3,
            c_int,
            c_int,
            *[c_int64] * 5,
            c_int,
            POINTER(c_char_p),
            POINTER(c_char_p),
            POINTER(c_int),
            c_int,
        ],
    ),
    "babelrec_front_listen": (None, [c_void_p, c_int]),
    "babelrec_front_start": (None, [c_void_p, c_char_p]),
    "babelrec_front_drain": (c_int, [c_void_p, c_double]),
    "babelrec_front_close": (c_int, [c_void_p, c_double]),
    "babelrec_front_serve": (None, [c_void_p, c_char_p, POINTER(c_int64), POINTER(c_void_p), c_int]),
    "babelrec_front_connections": (None, [c_void_p, POINTER(c_int64)]),
    "babelrec_front_enter": (c_int, [c_void_p]),
    "babelrec_front_leave": (None, [c_void_p]),
    "babelrec_front_waiting": (c_int64, [c_void_p]),
    "babelrec_front_counters": (c_void_p, [c_void_p, c_char_p]),
    "babelrec_counter_values": (c_size_t, [c_void_p]),
    "babelrec_counters_read": (None, [c_void_p, POINTER(c_double)]),
    "babelrec_counters_groups": (c_size_t, [c_void_p, POINTER(c_int64), POINTER(c_int64), c_size_t]),
    "babelrec_model_new": (c_void_p, [c_void_p, c_char_p, c_size_t]),
    "babelrec_model_add": (
        None,
        [
            c_void_p,
            c_char_p,
            POINTER(c_char_p),
            POINTER(c_int),
            POINTER(c_int),
            POINTER(c_char_p),
            POINTER(c_size_t),
            POINTER(Output),
            c_int,
            POINTER(c_char_p),
            POINTER(c_int),
            POINTER(Output),
            c_int,
            c_char_p,
            c_size_t,
        ],
    ),
    "babelrec_model_delete": (None, [c_void_p]),
    # TensorFlow's functions, with a niceness as an additional first argument.
    "babelrec_load_session": (c_void_p, [c_int, *SIGNATURES["TF_LoadSessionFromSavedModel"][1]]),
    "babelrec_run_session": (None, [c_int, *SIGNATURES["TF_SessionRun"][1]]),
    "babelrec_delete_session": (None, [c_int, c_void_p, c_void_p, c_void_p]),
}


def _compiled() -> Path | None:
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_front{suffix}")
        if path.exists():
            return path
    return None


def why_not() -> str | None:
    """Why the library is not available here, and the remedy; None when it is."""
    try:
        functions()
    except OSError as error:
        return str(error)
    return None


@functools.cache
def functions() -> ctypes.CDLL:
    """The library's functions, loaded on the first call. Each may block, so none holds the GIL.

    Raises:
        OSError: it was not built, or can't be loaded.
    """
    path = _compiled()
    if path is None:
        raise OSError(f"the native library was not built. Remedy: {_REMEDY}")
    library()  # TensorFlow's functions are looked up in the loaded libraries
    try:
        loaded = ctypes.CDLL(str(path), mode=_MODE)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (AttributeError, OSError) as error:
        raise OSError(f"{path} can't be used: {error}. Remedy: {_REMEDY}") from None
    if not loaded.babelrec_load(str(library_path()).encode()):
        raise OSError(
            f"{path} needs a function that tensorflow {installed('tensorflow')} lacks; known to work: {WORKS}. Remedy: "
            "install that version"
        )
    return loaded
