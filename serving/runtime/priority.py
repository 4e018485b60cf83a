"""Loads that leave the cores to requests.

Most of a load, and of an unload, is TensorFlow's work on the graph. It is given to threads with a raised niceness: a
pool of two, and, where the native library is there, one for each long call. The Python thread that loads is not nice
itself: a thread of low priority that holds Python's global lock, or is next to get it, would make every request wait
until the busy cores come round to it.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.native import library as native_library
from serving.protos import config_pb2
from serving.runtime.c_api import Status, library

# A thirtieth of the share of a thread that answers: little, but a load on busy cores still ends within minutes.
_NICENESS = 15
_NICEST = 19
_THREADS = "/proc/self/task"
# Two: a run may wait for another that it starts.
_POOL: dict[str, Any] = {"num_threads": 2, "global_name": "babelrec_loading"}


class _Here(threading.local):
    is_loading = False


_here = _Here()
# Loads may run at the same time; threads are put right when the last is over.
_lock = threading.Lock()
_loads = 0
# The niceness of the pool's threads, and their numbers.
_pool: tuple[int, frozenset[str]] | None = None


@contextlib.contextmanager
def considerate(config: Any) -> Iterator[None]:
    """Inside the block this thread's sessions are made and run in the pool of loads.

    ``config`` is the ``ConfigProto`` of these sessions: by that of a process's first session TensorFlow makes what all
    share, such as the threads inside an operation.

    A niceness belongs to a thread and is inherited by those that it starts, such as TensorFlow's batch threads at a
    model's first run. There it must be taken back, which takes CAP_SYS_NICE or RLIMIT_NICE; without, the block does
    nothing.
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
                _put_right()


def is_loading() -> bool:
    """Whether this thread is inside ``considerate``."""
    return _here.is_loading


def load_session(*arguments: Any) -> Any:
    """``TF_LoadSessionFromSavedModel``; in a load, in a thread of low priority."""
    native = _native_library() if is_loading() else None
    if native is None:
        return library().TF_LoadSessionFromSavedModel(*arguments)
    return native.babelrec_load_session(_niceness(), *arguments)


def run_session(*arguments: Any) -> None:
    """``TF_SessionRun``; in a load, in a thread of low priority."""
    native = _native_library() if is_loading() else None
    if native is None:
        library().TF_SessionRun(*arguments)
    else:
        native.babelrec_run_session(_niceness(), *arguments)


def delete_session(session: int, graph: int | None) -> None:
    """Closes and deletes a session and its graph; where there was a considerate load, in a thread of low priority."""
    native = _native_library() if _pool is not None else None
    c = library()
    with Status() as status:
        if native is not None:
            native.babelrec_delete_session(_niceness(), session, graph, status.pointer)
            return
        c.TF_CloseSession(session, status.pointer)
        c.TF_DeleteSession(session, status.pointer)
        c.TF_DeleteGraph(graph)


def with_pool(config: Any) -> tuple[Any, int]:
    """A copy of a ``ConfigProto`` with the pool of loads, and that pool's number for ``RunOptions``."""
    own = config_pb2.ConfigProto()
    own.CopyFrom(config)
    pools = own.session_inter_op_thread_pool
    if not pools:
        # Once pools are named TensorFlow makes no other. This stands for the one that sessions share by default.
        pools.add(global_name=f"babelrec_{config.inter_op_parallelism_threads}")
    pools.add(**_POOL)
    return own, len(pools) - 1


def _niceness() -> int:
    assert _pool is not None
    return _pool[0]


@functools.cache
def _native_library() -> Any:
    return None if native_library.why_not() else native_library.functions()


def _make_pool(config: Any) -> tuple[int, frozenset[str]]:
    made: list[tuple[int, frozenset[str]]] = []

    def make() -> None:
        _session(config)  # what sessions share is made before, with the usual priority
        before = set(os.listdir(_THREADS))
        thread = threading.get_native_id()
        niceness = min(os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS, _NICEST)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
        # No other pool: its threads would be nice too.
        _session(config_pb2.ConfigProto(session_inter_op_thread_pool=[_POOL]))
        made.append((niceness, frozenset(set(os.listdir(_THREADS)) - before)))

    # The pool's threads inherit the niceness of the thread that makes it, which then ends.
    making = threading.Thread(target=make, name="make-pool-of-loads")
    making.start()
    making.join()
    return made[0]


def _session(config: Any) -> None:
    """Makes a session without a graph, and closes it: shared pools stay."""
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


def _put_right() -> None:
    """Gives threads that loads have started the usual priority."""
    assert _pool is not None
    niceness, own = _pool
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    for name in os.listdir(_THREADS):
        if name not in own:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                if os.getpriority(os.PRIO_PROCESS, int(name)) == niceness != usual:
                    os.setpriority(os.PRIO_PROCESS, int(name), usual)


@functools.cache
def _can_take_niceness_back() -> bool:
    if not Path(_THREADS).is_dir():
        return False
    answers: list[bool] = []

    def ask() -> None:
        # In a thread of its own: one that may not take it back stays nice.
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
