"""Loads run in low-priority threads, and leave no other thread at low priority."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.private.tensorflow import library
from serving.protos import config_pb2
from serving.runtime.priority import considerate, is_loading, with_pool
from serving.runtime.session import SavedModelSession
from serving.runtime.tensors import proto_from_tensor, tensor_from_proto
from serving.tensors import to_numpy, to_proto
from tests.serving.models import export_tf1

_TASKS = "/proc/self/task"


def may_lower_and_raise() -> bool:
    return Path(_TASKS).is_dir() and os.geteuid() == 0


def nice_threads() -> set[str]:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    return {task for task in os.listdir(_TASKS) if os.getpriority(os.PRIO_PROCESS, int(task)) > usual}


def sleeps(task: str) -> tuple[bool, int]:
    """Whether a thread sleeps, and how often it has gone to sleep: once more after each piece of work."""
    status = dict(line.split(":", 1) for line in (Path(_TASKS) / task / "status").read_text().splitlines())
    return status["State"].split()[0] == "S", int(status["voluntary_ctxt_switches"])


def settled(pool: set[str]) -> dict[str, int]:
    """How often each thread has slept, once all do: after a piece of work they stay awake for a while."""
    deadline = time.monotonic() + 120
    former: dict[str, tuple[bool, int]] = {}
    while time.monotonic() < deadline:
        found = {task: sleeps(task) for task in pool}
        # No thread woke up between the two checks.
        if found == former and all(is_asleep for is_asleep, _ in found.values()):
            return {task: count for task, (_, count) in found.items()}
        former = found
        time.sleep(0.3)
    raise AssertionError("the pool does not come to rest")


@pytest.fixture
def plus(tmp_path: Path) -> tuple[SavedModelSession, Callable[[], list[float]]]:
    """A session created in a considerate block, and a run of it."""
    with considerate(config_pb2.ConfigProto()):
        session = SavedModelSession(export_tf1(tmp_path / "1"), ["serve"], config_pb2.ConfigProto())
    signature = session.meta_graph.signature_def["serving_default"]
    call = session.callable(
        [session.output(signature.inputs["x"].name)], [session.output(signature.outputs["y"].name)], inline=True
    )

    def run() -> list[float]:
        given = tensor_from_proto(to_proto(np.array([[2.0], [4.0]], np.float32)))
        (got,) = call([given])
        values: Any = to_numpy(proto_from_tensor(got)).ravel().tolist()
        for tensor in (given, got):
            library().TF_DeleteTensor(tensor)
        return list(values)

    return session, run


@pytest.mark.skipif(not may_lower_and_raise(), reason="this user can't restore priorities")
def test_a_load_runs_in_a_pool_of_low_priority_and_a_request_does_not(plus: Any) -> None:
    session, run = plus
    pool = nice_threads()
    assert len(pool) == 2
    before = settled(pool)
    assert not is_loading()
    for _ in range(20):
        assert run() == [3.0, 4.0]
    assert settled(pool) == before
    with considerate(config_pb2.ConfigProto()):
        assert is_loading()
        for _ in range(20):
            assert run() == [3.0, 4.0]
    assert settled(pool) != before
    assert nice_threads() == pool
    session.close()


def test_a_model_gives_the_same_answers_wherever_it_runs(plus: Any) -> None:
    session, run = plus
    with considerate(config_pb2.ConfigProto()):
        loading = run()
    assert loading == run() == [3.0, 4.0]
    session.close()


def test_configured_pools_stay() -> None:
    given = config_pb2.ConfigProto(inter_op_parallelism_threads=3)
    given.session_inter_op_thread_pool.add(num_threads=5)
    config, number = with_pool(given)
    assert [pool.num_threads for pool in config.session_inter_op_thread_pool] == [5, 2]
    assert number == 1
    assert len(given.session_inter_op_thread_pool) == 1
    config, number = with_pool(config_pb2.ConfigProto(inter_op_parallelism_threads=3))
    first, second = config.session_inter_op_thread_pool
    assert (first.num_threads, number) == (0, 1)  # 0: inter_op_parallelism_threads threads
    assert first.global_name != second.global_name
