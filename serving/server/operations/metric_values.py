"""Metric values by name and labels; snapshots of them can be passed to another process and added up.

Cells are plain Python numbers behind a lock: an observation costs less than a microsecond, with prometheus_client
several.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

# Clients choose model names freely, so the number and length of the label values we keep is bounded.
MAX_CELLS = 4096
MAX_LABEL = 256
OTHER = "(other)"

Labels = tuple[str, ...]
# Raw metric name -> label values -> number, or (count of each bucket, sum).
Snapshot = dict[str, dict[Labels, Any]]


class Number:
    """One number; thread-safe."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._lock = threading.Lock()

    def add(self, amount: float = 1) -> None:
        """Adds ``amount``."""
        with self._lock:
            self.value += amount

    def set(self, value: float) -> None:
        """Replaces the number."""
        self.value = value

    def read(self) -> float:
        """The current number."""
        return self.value


class Histogram:
    """Counts of observations by bucket, and their sum; thread-safe.

    Args:
        bounds: inclusive upper bounds, ascending; values above the last one have their own bucket.
    """

    __slots__ = ("_bounds", "_counts", "_lock", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float, times: int = 1) -> None:
        """Adds one observation, or several of the same value."""
        index = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[index] += times
            self._sum += value * times

    def read(self) -> tuple[list[int], float]:
        """(observations in each bucket, their sum)."""
        with self._lock:
            return list(self._counts), self._sum


Cell = TypeVar("Cell", Number, Histogram)


class Family(Generic[Cell]):
    """All cells of one metric, by label values.

    Args:
        name: TensorFlow's name, ``/tensorflow/serving/request_count``.
        kind: Prometheus' type: ``counter``, ``gauge`` or ``histogram``.
        labels: names of the labels.
        make: creates a new cell.
        bounds: of the histogram's buckets.
    """

    def __init__(
        self, name: str, kind: str, labels: Sequence[str], make: Callable[[], Cell], bounds: Sequence[float] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.labels = tuple(labels)
        self.bounds = bounds
        self._make: Callable[[], Cell] = make
        self._cells: dict[Labels, Cell] = {}
        self._lock = threading.Lock()

    def cell(self, *values: str) -> Cell:
        """The cell of these label values, created at its first use; keep it where speed matters.

        Once ``MAX_CELLS`` exist, new label values share one cell labelled ``(other)``.
        """
        cell = self._cells.get(values)
        return cell if cell is not None else self._new(values)

    def read(self) -> dict[Labels, Any]:
        """Values of all cells by label values."""
        with self._lock:
            cells = list(self._cells.items())
        return {labels: cell.read() for labels, cell in cells}

    def total(self) -> float:
        """Sum over all cells of a counter or gauge, or the number of a histogram's observations."""
        return total(self.read())

    def _new(self, values: Labels) -> Cell:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, got the values {values}")
        values = tuple(value[:MAX_LABEL] for value in values)
        with self._lock:
            if values not in self._cells and len(self._cells) >= MAX_CELLS:
                values = (OTHER,) * len(values)
            return self._cells.setdefault(values, self._make())


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Bounds of TensorFlow's ``Buckets::Exponential``, computed the same way: by repeated multiplication."""
    bounds: list[float] = []
    bound = scale
    for _ in range(count):
        bounds.append(bound)
        bound *= growth
    return tuple(bounds)


def total(values: Mapping[Labels, Any]) -> float:
    """Sum over all cells of a counter or gauge, or the number of a histogram's observations."""
    return sum(sum(value[0]) if isinstance(value, tuple) else value for value in values.values())


def merge(values: Snapshot, more: Snapshot, kinds: Mapping[str, str]) -> None:
    """Adds ``more`` to ``values``; for gauges the maximum is kept.

    Args:
        values: the target.
        more: the values to add.
        kinds: metric kinds by name; ``gauge`` for gauges.
    """
    for name, cells in more.items():
        _merge(values.setdefault(name, {}), cells, kinds.get(name, ""))


def _merge(values: dict[Labels, Any], more: Mapping[Labels, Any], kind: str) -> None:
    for labels, value in more.items():
        mine = values.get(labels)
        if mine is None:
            values[labels] = value
        elif isinstance(value, tuple):
            values[labels] = ([a + b for a, b in zip(mine[0], value[0], strict=True)], mine[1] + value[1])
        else:
            values[labels] = max(mine, value) if kind == "gauge" else mine + value
