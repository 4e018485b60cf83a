"""What larger data sets need, of measurements whose law is known."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.capacity import Line, Power, growth, main

_COMMANDS = ("data", "texts", "first step", "epoch", "evaluate", "export", "fit")


def _measured(items: float, interactions: float) -> dict[str, Any]:
    """Processor seconds 0.01 x^0.9, memory 0.5 GiB and 1 GiB for each million of interactions or items."""
    costs: dict[str, Any] = {"items": items, "interactions": interactions, "model": {"gib": 0.1 + items / 1e6}}
    for name in _COMMANDS:
        x = items if name in ("texts", "evaluate", "export") else interactions
        costs[name] = {"cpu": 0.01 * x**0.9, "memory": 0.5 + x / 1e6}
    return costs


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """As of `bench-scale`."""
    path = tmp_path / "scale.json"
    sizes = {"S": _measured(1e4, 1e6), "M": _measured(1e5, 1e7), "L": _measured(1e6, 2e7)}
    path.write_text(json.dumps({"sizes": sizes}))
    return path


def test_laws_are_found_again() -> None:
    power = Power.fitted([1e4, 1e5, 1e6], [0.01 * x**0.9 for x in (1e4, 1e5, 1e6)])
    assert power.exponent == pytest.approx(0.9)
    assert power(1e8) == pytest.approx(0.01 * 1e8**0.9)
    line = Line.fitted([1e4, 1e6], [0.51, 1.5])
    assert line.constant == pytest.approx(0.5)
    assert line.slope == pytest.approx(1e-6)
    # What falls by chance is taken as constant: nothing needs less memory for more.
    assert Line.fitted([1e4, 1e6], [0.6, 0.5]).slope == 0.0


def test_needs_follow_from_what_was_measured(measured: Path, tmp_path: Path) -> None:
    output = tmp_path / "capacity.json"
    sizes = ["1e6x2e7", "1e8x1e9"]
    given = ["--epochs", "4", "--requests", "600", "--request-ms", "2", "--machine-gib", "100"]
    assert main(["--measured", str(measured), "--output", str(output), "--sizes", *sizes, *given]) == 0
    small, large = json.loads(output.read_bytes())["needs"]
    assert (small["measured"], large["measured"]) == (True, False)
    assert large["cpu_hours"]["data"] == pytest.approx(0.01 * 1e9**0.9 / 3600)
    assert large["cpu_hours"]["epoch"] == pytest.approx(4 * 0.01 * 1e9**0.9 / 3600)
    assert large["cpu_hours"]["export"] == pytest.approx(0.01 * 1e8**0.9 / 3600)
    assert large["gib"]["data"] == pytest.approx(1000.5)
    # 60 % of 100 GiB: 1,000.5 GiB are on 17 machines, an index of 100.1 GiB on 2.
    assert large["machines"] == {"data": 17, "index": 2, "serving_cores": pytest.approx(2 * 2.0)}
    assert not large["fits"]
    assert small["machines"]["index"] == 1
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "100M x 1B *" in output.with_suffix(".md").read_text()


def test_growth_names_the_exponents(measured: Path) -> None:
    found = growth(json.loads(measured.read_bytes())["sizes"])
    assert found["evaluate"]["exponent"] == pytest.approx(0.9)
    assert found["epoch"]["gib_a_million"] == pytest.approx(1.0)


@pytest.mark.parametrize("size", ["1e6", "many x few", "0x1e6", "1e6xinf"])
def test_a_size_that_is_none_is_refused(size: str, measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--measured", str(measured), "--sizes", size]) == 2
    assert "--sizes" in capsys.readouterr().err


def test_nothing_measured_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--measured", str(tmp_path / "none.json")]) == 2
    assert "make bench-scale" in capsys.readouterr().err
    one = tmp_path / "one.json"
    one.write_text(json.dumps({"sizes": {"S": _measured(1e4, 1e6)}}))
    assert main(["--measured", str(one)]) == 2
    assert "fewer than two sizes" in capsys.readouterr().err
