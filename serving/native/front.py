"""The front in C++ (``src/``), by ctypes."""

import ctypes
import importlib.machinery
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.runtime.c_api import Output, library, library_path, output_array

REMEDY = "`apt-get install g++ libgrpc-dev libprotozero-dev`, then `pip install` this package again"
SUPPORTED_DTYPES = frozenset({1, 2, 3, 7, 9, 10})
"""Types of tensors that the front can read and write: float, double, int32, string, int64, bool."""

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "babelrec_load": (c_int, [c_char_p]),
    "babelrec_front_new": (
        c_void_p,
        [c_int, c_int64, c_int64, c_int64, c_int, POINTER(c_char_p), POINTER(c_char_p), POINTER(c_int), c_int],
    ),
    "babelrec_front_listen": (c_int, [c_void_p, c_char_p]),
    "babelrec_front_start": (None, [c_void_p, c_char_p]),
    "babelrec_front_drain": (c_int, [c_void_p, c_double]),
    "babelrec_front_close": (c_int, [c_void_p, c_double]),
    "babelrec_front_serve": (None, [c_void_p, c_char_p, POINTER(c_int64), POINTER(c_void_p), c_int]),
    "babelrec_front_count": (c_int, [c_void_p, c_char_p, POINTER(c_double)]),
    "babelrec_counter_values": (c_int, []),
    "babelrec_model_new": (c_void_p, [c_void_p, c_char_p, c_size_t]),
    "babelrec_model_add": (
        None,
        [
            c_void_p,
            c_char_p,
            POINTER(c_char_p),
            POINTER(c_int),
            POINTER(c_int),
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
}
_loaded: dict[Path, Any] = {}


def compiled() -> Path | None:
    """The compiled library; None where it was not built."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_front{suffix}")
        if path.exists():
            return path
    return None


def why_not() -> str | None:
    """Why there is no front here, and the remedy; None when there is one."""
    path = compiled()
    if path is None:
        return f"it was not built. Remedy: {REMEDY}"
    try:
        _functions(path)
    except OSError as error:
        return f"{path} can't be loaded: {error}. Remedy: {REMEDY}"
    return None


def _functions(path: Path | None = None) -> Any:
    path = path or compiled()
    if path is None:
        raise OSError(f"the native front was not built. Remedy: {REMEDY}")
    if path not in _loaded:
        library()  # its functions are looked up among what is loaded
        # Every call may wait for a lock, if briefly, so none keeps Python's.
        functions = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(functions, name)
            function.restype, function.argtypes = result, arguments
        if not functions.babelrec_load(str(library_path()).encode()):
            raise OSError("TensorFlow's library lacks a function")
        _loaded[path] = functions
    return _loaded[path]


@dataclass(frozen=True, slots=True)
class NativeSignature:
    """A signature that the front may run.

    Attributes:
        inputs: (alias, number of the type, rank of at least 1) of each.
        feeds: their tensors.
        outputs: (alias, number of the type) of each.
        fetches: their tensors.
        spec_field: the field ``model_spec`` of its responses on the wire.
    """

    inputs: Sequence[tuple[str, int, int]]
    feeds: Sequence[Output]
    outputs: Sequence[tuple[str, int]]
    fetches: Sequence[Output]
    spec_field: bytes


class NativeModel:
    """A version of a model as the front runs it.

    Args:
        session: the ``TF_Session``, which must stay until ``close`` has returned.
        run_options: a ``RunOptions``, serialized.
        signatures: by key.
    """

    def __init__(self, session: int, run_options: bytes, signatures: Mapping[str, NativeSignature]) -> None:
        functions = _functions()
        self.handle: int | None = functions.babelrec_model_new(session, run_options, len(run_options))
        for key, signature in signatures.items():
            functions.babelrec_model_add(
                self.handle,
                key.encode(),
                _texts([alias for alias, _, _ in signature.inputs]),
                _numbers([dtype for _, dtype, _ in signature.inputs]),
                _numbers([rank for _, _, rank in signature.inputs]),
                output_array(signature.feeds),
                len(signature.inputs),
                _texts([alias for alias, _ in signature.outputs]),
                _numbers([dtype for _, dtype in signature.outputs]),
                output_array(signature.fetches),
                len(signature.outputs),
                signature.spec_field,
                len(signature.spec_field),
            )

    def close(self) -> None:
        """Waits until nothing runs it; fronts must not serve it any more."""
        if self.handle is not None:
            _functions().babelrec_model_delete(self.handle)
            self.handle = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What the front has done with a model's requests.

    Attributes:
        answered: those that were answered well.
        refused: those that were refused as UNAVAILABLE.
        request_latency: (how many in each of TensorFlow Serving's latency buckets, their sum in microseconds).
        run_latency: the same for the model's runs.
    """

    answered: int
    refused: int
    request_latency: tuple[list[int], float]
    run_latency: tuple[list[int], float]


class Front:
    """The gRPC server that clients meet. It answers Predict where it can and passes all else on.

    Args:
        groups: groups of requests that are worked on at once.
        max_rows: rows of a group.
        max_waiting: rows that may wait; more are refused with UNAVAILABLE.
        max_concurrent: Predict requests in the server at once; more are refused with RESOURCE_EXHAUSTED. 0: no limit.
        pad: whether sizes that differ beyond the rows are filled up.
        channel_arguments: gRPC's own options.

    Raises:
        OSError: it is not built, or can't be loaded.
    """

    def __init__(
        self,
        *,
        groups: int,
        max_rows: int,
        max_waiting: int,
        max_concurrent: int,
        pad: bool,
        channel_arguments: Sequence[tuple[str, int | str]],
    ) -> None:
        self._functions = _functions()
        texts = (c_char_p * len(channel_arguments))(
            *[value.encode() if isinstance(value, str) else None for _, value in channel_arguments]
        )
        self._front = self._functions.babelrec_front_new(
            groups,
            max_rows,
            max_waiting,
            max_concurrent,
            pad,
            _texts([key for key, _ in channel_arguments]),
            texts,
            _numbers([value if isinstance(value, int) else 0 for _, value in channel_arguments]),
            len(channel_arguments),
        )

    def listen(self, address: str) -> int:
        """Binds ``host:port`` or ``unix:/path``; returns the port, or 0 when the address can't be had."""
        return int(self._functions.babelrec_front_listen(self._front, address.encode()))

    def start(self, behind: str) -> None:
        """Begins to answer, and to pass calls on to the gRPC server at ``behind``."""
        self._functions.babelrec_front_start(self._front, behind.encode())

    def serve(self, name: str, versions: Mapping[int, NativeModel | None]) -> None:
        """Says which versions of a model there are, instead of what was said before.

        Args:
            name: the model.
            versions: by number, ascending. None: requests for it are passed on.
        """
        numbers = (c_int64 * len(versions))(*versions)
        handles = (c_void_p * len(versions))(*[model.handle if model else None for model in versions.values()])
        self._functions.babelrec_front_serve(self._front, name.encode(), numbers, handles, len(versions))

    def count(self, name: str) -> Counts | None:
        """What has become of a model's requests; None when no such model was ever served."""
        values = (c_double * self._functions.babelrec_counter_values())()
        if not self._functions.babelrec_front_count(self._front, name.encode(), values):
            return None
        answered, refused, *latencies = list(values)
        middle = len(latencies) // 2
        requests, runs = latencies[:middle], latencies[middle:]
        return Counts(
            int(answered),
            int(refused),
            ([int(count) for count in requests[:-1]], requests[-1]),
            ([int(count) for count in runs[:-1]], runs[-1]),
        )

    def drain(self, seconds: float) -> bool:
        """Takes no new calls; returns whether all Predict requests have ended within so many seconds."""
        return bool(self._functions.babelrec_front_drain(self._front, seconds))

    def close(self, seconds: float) -> bool:
        """Ends what goes on; False when a run goes on after so many seconds. ``serve`` and ``count`` still work."""
        return bool(self._functions.babelrec_front_close(self._front, seconds))


def _texts(values: Sequence[str]) -> Any:
    return (c_char_p * len(values))(*[value.encode() for value in values])


def _numbers(values: Sequence[int]) -> Any:
    return (c_int * len(values))(*values)
