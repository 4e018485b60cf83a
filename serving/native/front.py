"""The C++ front (``src/front.h``): a gRPC server in front of the one in Python."""

import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence
from ctypes import Array, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from serving.native.library import functions
from serving.native.listening import listen
from serving.private.tensorflow import Output, output_array

# gRPC 1.51 ends all requests of a connection when one has more metadata than its limit of 8 KiB by default. Requests
# with more than that are forwarded: gRPC for Python refuses only the request itself.
_MAX_METADATA = "grpc.max_metadata_size"
_METADATA_LIMIT = 1 << 20
_GRPC_WORKS = "1.51"
_SHARE_PORT = "grpc.so_reuseport"
# How long a client may take to connect, including TLS; gRPC allows two minutes.
_HANDSHAKE = "grpc.server_handshake_timeout_ms"
_HANDSHAKE_MILLIS = 20_000

SUPPORTED_DTYPES = frozenset({1, 2, 3, 7, 9, 10})
"""Tensor types that the front can read and write: float, double, int32, string, int64, bool."""
# Number of values in a histogram, as in `Counters` in src/model.h.
_LATENCIES, _WAITS, _SIZES = 33 + 2, 52 + 2, 14 + 2


@dataclass(frozen=True, slots=True)
class NativeSignature:
    """A signature that the front may run.

    Attributes:
        inputs: (alias, type number, rank of at least 1) of each.
        feeds: their tensors.
        outputs: (alias, type number) of each.
        fetches: their tensors.
        spec_field: the serialised field ``model_spec`` of its responses.
        rows: by alias, the value of each row of an input that a request may leave out: a serialised TensorProto with
            one row and all its values.
    """

    inputs: Sequence[tuple[str, int, int]]
    feeds: Sequence[Output]
    outputs: Sequence[tuple[str, int]]
    fetches: Sequence[Output]
    spec_field: bytes
    rows: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS settings of a front, as PEM texts.

    Attributes:
        key: the private key.
        certificate: its certificate, followed by any intermediate certificates.
        authorities: certificates of the authorities that sign client certificates.
        verify: whether each client must present a certificate signed by one of them.
    """

    key: str
    certificate: str
    authorities: str = ""
    verify: bool = False


class NativeModel:
    """A model version that the front can run.

    Args:
        session: the ``TF_Session``, which must stay alive until ``close`` has returned.
        inline_options: a serialised ``RunOptions`` that keeps a run in its thread.
        signatures: by key.
    """

    def __init__(self, session: int, inline_options: bytes, signatures: Mapping[str, NativeSignature]) -> None:
        native = functions()
        self.handle: int | None = native.babelrec_model_new(session, inline_options, len(inline_options))
        for key, signature in signatures.items():
            rows = [signature.rows.get(alias) for alias, _, _ in signature.inputs]
            native.babelrec_model_add(
                self.handle,
                key.encode(),
                _texts([alias for alias, _, _ in signature.inputs]),
                _numbers([dtype for _, dtype, _ in signature.inputs]),
                _numbers([rank for _, _, rank in signature.inputs]),
                (c_char_p * len(rows))(*rows),
                (c_size_t * len(rows))(*[len(row) if row is not None else 0 for row in rows]),
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
        """Waits until nothing runs it; no front may serve it any longer."""
        if self.handle is not None:
            functions().babelrec_model_delete(self.handle)
            self.handle = None


@dataclass(frozen=True, slots=True)
class Counts:
    """The front's counters for a model's requests.

    Attributes:
        answered: requests answered successfully.
        refused: requests refused with UNAVAILABLE.
        request_latency: (number in each of TensorFlow Serving's latency buckets, their sum in microseconds).
        run_latency: the same for the model's runs.
        queuing_latency: the same for the time that requests waited before their run.
        input_rows: (number of inputs in each of its batch size buckets, the sum of their rows).
        groups: number of groups that were run, by rows.
    """

    answered: int
    refused: int
    request_latency: tuple[list[int], float]
    run_latency: tuple[list[int], float]
    queuing_latency: tuple[list[int], float]
    input_rows: tuple[list[int], float]
    groups: Mapping[int, int]


class Arrivals(NamedTuple):
    """A front's connections, and the requests that it refused.

    Attributes:
        open: open connections, as of the last second.
        accepted: all accepted connections.
        refused: connections closed immediately, for lack of file descriptors or beyond the connection limit.
        refused_requests: Predict requests beyond ``max_concurrent``.
    """

    open: int
    accepted: int
    refused: int
    refused_requests: int


class Front:
    """The gRPC server that clients connect to. It answers Predict if it can and forwards everything else.

    Args:
        groups: groups of requests processed concurrently.
        max_rows: maximum rows of a group.
        max_waiting: rows that may wait; more are refused with UNAVAILABLE.
        timeout_micros: maximum time that an incomplete group waits for the clients of the previous one to return.
        max_concurrent: limit on concurrent Predict requests and requests that ``enter``; more are refused. 0: no limit.
        max_connections: more are closed immediately.
        pad: whether sizes that differ beyond the rows are padded.
        channel_arguments: gRPC options.
        tls: None: connections are not encrypted.

    Raises:
        OSError: it is not built, can't be loaded, or its gRPC version is not supported.
    """

    def __init__(
        self,
        *,
        groups: int,
        max_rows: int,
        max_waiting: int,
        timeout_micros: int,
        max_concurrent: int,
        max_connections: int,
        pad: bool,
        channel_arguments: Sequence[tuple[str, int | str]],
        tls: Tls | None = None,
    ) -> None:
        self._native = functions()
        given = dict(channel_arguments)
        self._share_port = bool(given.pop(_SHARE_PORT, False))
        self._paths: list[str] = []
        channel_arguments = list(
            (
                {_HANDSHAKE: _HANDSHAKE_MILLIS}
                | given
                | {_MAX_METADATA: max(int(given.get(_MAX_METADATA, 0)), _METADATA_LIMIT)}
            ).items()
        )
        texts = (c_char_p * len(channel_arguments))(
            *[value.encode() if isinstance(value, str) else None for _, value in channel_arguments]
        )
        tls = tls or Tls("", "")
        self._front = self._native.babelrec_front_new(
            tls.key.encode(),
            tls.certificate.encode(),
            tls.authorities.encode(),
            tls.verify,
            groups,
            max_rows,
            max_waiting,
            timeout_micros,
            max_concurrent,
            max_connections,
            pad,
            _texts([key for key, _ in channel_arguments]),
            texts,
            _numbers([value if isinstance(value, int) else 0 for _, value in channel_arguments]),
            len(channel_arguments),
        )
        if not self._front:
            raise OSError(
                f"gRPC {self._native.babelrec_grpc_version().decode()} does not support externally accepted "
                f"connections; known to work: {_GRPC_WORKS}"
            )

    def listen(self, address: str) -> int:
        """Binds ``host:port`` or ``unix:/path``, before the start; returns the port, 0 for a path.

        Raises:
            OSError: the address is not available.
        """
        sockets = listen(address, share_port=self._share_port)
        name = sockets[0].getsockname()
        for each in sockets:
            self._native.babelrec_front_listen(self._front, each.detach())
        if isinstance(name, tuple):
            return int(name[1])
        self._paths.append(name)
        return 0

    def start(self, behind: str) -> None:
        """Starts answering, and forwarding calls to the gRPC server at ``behind``."""
        self._native.babelrec_front_start(self._front, behind.encode())

    def serve(self, name: str, versions: Mapping[int, NativeModel | None]) -> None:
        """Sets the versions of a model, replacing the previous ones.

        Args:
            name: the model.
            versions: by number, ascending. None: requests for it are forwarded.
        """
        numbers = (c_int64 * len(versions))(*versions)
        handles = (c_void_p * len(versions))(*[model.handle if model else None for model in versions.values()])
        self._native.babelrec_front_serve(self._front, name.encode(), numbers, handles, len(versions))

    def count(self, name: str) -> Counts | None:
        """Counters of a model's requests; None when no such model was ever served."""
        native = self._native
        counters = native.babelrec_front_counters(self._front, name.encode())
        if not counters:
            return None
        values = (c_double * native.babelrec_counter_values(counters))()
        native.babelrec_counters_read(counters, values)
        # Each has one number per bucket, then the sum.
        parts = (_LATENCIES, _LATENCIES, _WAITS, _SIZES)
        starts = [2, *(2 + end for end in itertools.accumulate(parts))]
        requests, runs, waits, inputs = (
            ([int(count) for count in values[start : end - 1]], values[end - 1]) for start, end in pairwise(starts)
        )
        return Counts(int(values[0]), int(values[1]), requests, runs, waits, inputs, self._groups(counters))

    def _groups(self, counters: int) -> dict[int, int]:
        native = self._native
        most = native.babelrec_counters_groups(counters, None, None, 0)
        sizes, counts = (c_int64 * most)(), (c_int64 * most)()
        # There may be more by now; those that fit existed at the time of the first call.
        native.babelrec_counters_groups(counters, sizes, counts, most)
        return dict(zip(sizes, counts, strict=True))

    def arrivals(self) -> Arrivals:
        """Counts of open, accepted and refused connections."""
        counts = (c_int64 * 4)()
        self._native.babelrec_front_connections(self._front, counts)
        return Arrivals(*counts)

    def enter(self) -> bool:
        """Counts a request that is answered elsewhere, unless there are too many already; returns whether it did."""
        return bool(self._native.babelrec_front_enter(self._front))

    def leave(self) -> None:
        """A request that has entered has ended."""
        self._native.babelrec_front_leave(self._front)

    def waiting(self) -> int:
        """Rows that wait for a run."""
        return int(self._native.babelrec_front_waiting(self._front))

    def drain(self, seconds: float) -> bool:
        """Stops accepting calls; returns whether all have ended within ``seconds``."""
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._paths.clear()
        return bool(self._native.babelrec_front_drain(self._front, seconds))

    def close(self, seconds: float) -> bool:
        """Ends running calls; False if a run continues after ``seconds``. ``serve`` and ``count`` still work."""
        return bool(self._native.babelrec_front_close(self._front, seconds))


def _texts(values: Sequence[str]) -> Array[c_char_p]:
    return (c_char_p * len(values))(*[value.encode() for value in values])


def _numbers(values: Sequence[int]) -> Array[c_int]:
    return (c_int * len(values))(*values)
