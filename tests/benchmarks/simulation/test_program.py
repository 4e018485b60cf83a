import json
from pathlib import Path

import pytest

from benchmarks.simulation.__main__ import main
from trainer.data.dataset import Dataset

_SMALL = ["--set", "people.count=80", "items.count=40", "days=6", "--days", "3", "--warm-up", "1", "--places", "5"]


def test_policies_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.simulation.__main__._SPEED_PEOPLE", 100)
    output = tmp_path / "simulation.json"
    assert main([*_SMALL, "--seeds", "3", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    names = ["random", "popularity", "popularity, epsilon 0.1", "oracle", "oracle (satisfaction)"]
    assert list(found["policies"]) == names
    assert found["policies"]["oracle"]["all"]["regret"]["mean"] == pytest.approx(0.0, abs=1e-12)
    assert found["policies"]["random"]["all"]["regret"]["mean"] > 0
    for row in found["policies"].values():
        assert row["all"]["best_ctr"]["mean"] >= row["all"]["expected_ctr"]["mean"] - 1e-12
        assert sum(row[tag]["visits"]["mean"] for tag in ("en", "zh")) > 0
    assert all(bar["holds"] for bar in found["bars"])
    assert "What policies are worth" in capsys.readouterr().err


def test_a_log_is_written(tmp_path: Path) -> None:
    assert main([*_SMALL, "--dataset", str(tmp_path / "log"), "--policy", "random"]) == 0
    dataset = Dataset.load(tmp_path / "log")
    first = dataset.interactions().collect().row(0, named=True)
    assert first["propensity"] == pytest.approx(1 / 40)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--days", "40"], "world's 28"), (["--places", "700"], "600 items"), (["--set", "x"], "x")],
)
def test_mistakes_are_explained(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert named in " ".join(capsys.readouterr().err.split())
