"""Costs of commands by size."""

from typing import Any

import pytest

from benchmarks.scale.__main__ import bars, exponent
from benchmarks.scale.plot import draw


def _size(interactions: int, seconds: float, **further: object) -> dict[str, Any]:
    commands = ("data", "first step", "evaluate", "export")
    costs: dict[str, Any] = {name: {"cpu": seconds, "memory": 2.0} for name in commands}
    return {"interactions": interactions, "step": {"cpu": 0.2}, "epoch": {"cpu": 600.0}} | costs | further


_SIZES = {"S": _size(1_000_000, 3.0), "M": _size(10_000_000, 30.0), "L": _size(100_000_000, 300.0)}


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    assert exponent(_SIZES, "data") == pytest.approx(1.0)
    assert exponent(_SIZES, "step") == pytest.approx(0.0)
    squares = {str(n): _size(n, float(n**2)) for n in (10, 30, 1_000)}
    assert exponent(squares, "evaluate") == pytest.approx(2.0)
    assert exponent({"S": _size(1_000_000, 3.0)}, "data") is None


def test_bars_are_of_the_largest_size() -> None:
    held = {bar["name"]: bar for bar in bars(_SIZES)}
    assert held["L: processor seconds to the first step"]["value"] == 300.0
    assert held["L: processor minutes of an epoch"]["value"] == 10.0
    assert held["L: processor minutes of evaluate"]["holds"]
    assert not held["L: processor seconds to the first step"]["holds"]
    assert held["exponent of step"]["holds"]


def test_what_was_not_measured_holds_no_bar() -> None:
    without = {name: {key: each[key] for key in each if key != "export"} for name, each in _SIZES.items()}
    export = [bar for bar in bars(without) if "export" in bar["name"]]
    assert [(bar["value"], bar["holds"]) for bar in export] == [(None, False)] * 2


def test_a_memory_bar_names_the_greediest_command() -> None:
    sizes = _SIZES | {"L": _size(100_000_000, 300.0, fit={"cpu": 1.0, "memory": 9.5})}
    assert next(bar["value"] for bar in bars(sizes) if "memory" in bar["name"]) == 9.5


def test_curves_are_drawn_for_several_sizes() -> None:
    assert draw({"sizes": {"S": _SIZES["S"]}}) == {}
    assert draw({"sizes": _SIZES})[""].startswith(b"\x89PNG")
