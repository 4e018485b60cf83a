"""Timing of calls that alternate, and summaries of the times."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

_T = TypeVar("_T")


class Seconds(NamedTuple):
    """Wall-clock and processor time of a call."""

    wall: float
    cpu: float


def timed(call: Callable[..., _T], *arguments: object) -> tuple[Seconds, _T]:
    """Times one call; returns its seconds, with the processor time of this process, and its result."""
    began, began_cpu = time.perf_counter(), time.process_time()
    result = call(*arguments)
    return Seconds(time.perf_counter() - began, time.process_time() - began_cpu), result


def in_turn(
    calls: Mapping[str, Callable[[], Seconds]], rounds: int, after: Callable[[], None] = lambda: None
) -> dict[str, list[Seconds]]:
    """Each call's seconds in every round.

    The order alternates, so that no call always follows the same one, and other work on the machine affects all alike.

    Args:
        calls: Name -> function to time.
        rounds: Number of rounds.
        after: Called after each call, for the progress bar.
    """
    found: dict[str, list[Seconds]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in sorted(calls, reverse=bool(number % 2)):
            found[name].append(calls[name]())
            after()
    return found


def percentiles(samples: Sequence[float], at: Sequence[int] = (5, 50, 95)) -> dict[str, float]:
    """p5, p50, p95 (or those ``at``; linear interpolation) and the number of samples."""
    points = np.percentile(samples, at).tolist()
    return {**{f"p{share}": point for share, point in zip(at, points, strict=True)}, "samples": len(samples)}


def note_of_other_work(facts: Mapping[str, Any]) -> list[str]:
    """A sentence if other work was running before the measurement, else none.

    Args:
        facts: The result's ``environment``.
    """
    load, cores = facts["load_average"], facts["cores"]
    if load <= cores / 2:
        return []
    return [
        f"Other work was running (load {load}, {cores} cores): processor times are more reliable than wall-clock times."
    ]
