"""Low-priority model loading, so that requests get the cores.

Most of a load, and of an unload, is TensorFlow's work on the graph. It runs in threads with a raised niceness: a
pool of two and, if the native library is available, one for each long call. The Python thread that loads is not nice
itself: a low-priority thread that holds the GIL, or is next in line for it, would make every request wait until the
busy cores schedule it.
"""

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.native import library as native_library
from serving.private.tensorflow import Status, library
from serving.protos import config_pb2

# A thirtieth of the CPU share of a request thread: little, but a load on busy cores still ends within minutes.
_NICENESS = 15
_NICEST = 19
_THREADS = "/proc/self/task"
# Two: a run may wait for another that it starts.
_POOL: dict[str, Any] = {"num_threads": 2, "global_name": "babelrec_loading"}


class _Here(threading.local):
    is_loading = False


_here = _Here()
# Loads may run concurrently; thread priorities are restored when the last one ends.
_lock = threading.Lock()
_loads = 0
# The niceness of the pool's threads, and their ids.
_pool: tuple[int, frozenset[str]] | None = None


@contextlib.contextmanager
def considerate(config: config_pb2.ConfigProto) -> Iterator[None]:
    """Inside the block, this thread's sessions are created and run in the load pool.

    ``config`` is the ``ConfigProto`` of these sessions: TensorFlow uses that of a process's first session to create
    shared resources, such as the intra-op threads.

    Niceness belongs to a thread and is inherited by the threads it starts, such as TensorFlow's batch threads at a
    model's first run. For those it must be reverted, which requires CAP_SYS_NICE or RLIMIT_NICE; without them the
    block does nothing.
    """
    global _loads, _pool
    if _here.is_loading or not _can_take_niceness_back():
        yield
        return
    with _lock:
        _pool = _pool or _make_pool(config)
        _loads += 1
    _here.is_loading = True
    try:
        yield
    finally:
        _here.is_loading = False
        with _lock:
            _loads -= 1
            if not _loads:
                _restore_priorities()


def is_loading() -> bool:
    """Whether this thread is inside ``considerate``."""
    return _here.is_loading


def load_session(*arguments: object) -> int | None:
    """``TF_LoadSessionFromSavedModel``; during a load, in a low-priority thread."""
    native = _native_library() if is_loading() else None
    session: int | None
    if native is None:
        session = library().TF_LoadSessionFromSavedModel(*arguments)
    else:
        session = native.babelrec_load_session(_niceness(), *arguments)
    return session


def run_session(*arguments: object) -> None:
    """``TF_SessionRun``; during a load, in a low-priority thread."""
    native = _native_library() if is_loading() else None
    if native is None:
        library().TF_SessionRun(*arguments)
    else:
        native.babelrec_run_session(_niceness(), *arguments)


def delete_session(session: int, graph: int | None) -> None:
    """Closes and deletes a session and its graph; in a low-priority thread if there was a considerate load."""
    native = _native_library() if _pool is not None else None
    c = library()
    with Status() as status:
        if native is not None:
            native.babelrec_delete_session(_niceness(), session, graph, status.pointer)
            return
        c.TF_CloseSession(session, status.pointer)
        c.TF_DeleteSession(session, status.pointer)
        c.TF_DeleteGraph(graph)


def with_pool(config: config_pb2.ConfigProto) -> tuple[config_pb2.ConfigProto, int]:
    """A copy of a ``ConfigProto`` with the load pool, and that pool's index for ``RunOptions``."""
    own = config_pb2.ConfigProto()
    own.CopyFrom(config)
    pools = own.session_inter_op_thread_pool
    if not pools:
        # If pools are listed, TensorFlow creates no others. This one represents the default shared pool.
        pools.add(global_name=f"babelrec_{config.inter_op_parallelism_threads}")
    pools.add(**_POOL)
    return own, len(pools) - 1


def _niceness() -> int:
    assert _pool is not None
    return _pool[0]


@functools.cache
def _native_library() -> ctypes.CDLL | None:
    return None if native_library.why_not() else native_library.functions()


def _make_pool(config: config_pb2.ConfigProto) -> tuple[int, frozenset[str]]:
    made: list[tuple[int, frozenset[str]]] = []

    def make() -> None:
        _session(config)  # creates the resources shared by sessions first, at normal priority
        before = set(os.listdir(_THREADS))
        thread = threading.get_native_id()
        niceness = min(os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS, _NICEST)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
        # No other pool: its threads would be nice too.
        _session(config_pb2.ConfigProto(session_inter_op_thread_pool=[_POOL]))
        made.append((niceness, frozenset(set(os.listdir(_THREADS)) - before)))

    # The pool's threads inherit the niceness of the thread that creates it, which then ends.
    making = threading.Thread(target=make, name="make-pool-of-loads")
    making.start()
    making.join()
    return made[0]


def _session(config: config_pb2.ConfigProto) -> None:
    """Creates a session without a graph and closes it: shared pools stay."""
    c = library()
    graph, options = c.TF_NewGraph(), c.TF_NewSessionOptions()
    try:
        with Status() as status:
            serialized = config.SerializeToString()
            c.TF_SetConfig(options, serialized, len(serialized), status.pointer)
            status.check()
            session = c.TF_NewSession(graph, options, status.pointer)
            status.check()
            c.TF_CloseSession(session, status.pointer)
            c.TF_DeleteSession(session, status.pointer)
            status.check()
    finally:
        c.TF_DeleteSessionOptions(options)
        c.TF_DeleteGraph(graph)


def _restore_priorities() -> None:
    """Resets threads that loads have started to normal priority."""
    assert _pool is not None
    niceness, own = _pool
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    for name in os.listdir(_THREADS):
        if name not in own:
            with contextlib.suppress(ProcessLookupError):  # the thread has ended
                if os.getpriority(os.PRIO_PROCESS, int(name)) == niceness != usual:
                    os.setpriority(os.PRIO_PROCESS, int(name), usual)


@functools.cache
def _can_take_niceness_back() -> bool:
    if not Path(_THREADS).is_dir():
        return False
    answers: list[bool] = []

    def ask() -> None:
        # In a separate thread: one that can't revert its niceness stays nice.
        thread = threading.get_native_id()
        usual = os.getpriority(os.PRIO_PROCESS, thread)
        try:
            os.setpriority(os.PRIO_PROCESS, thread, min(usual + 1, _NICEST))
            os.setpriority(os.PRIO_PROCESS, thread, usual)
            answers.append(True)
        except OSError:
            answers.append(False)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    return answers == [True]
