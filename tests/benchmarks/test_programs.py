"""Every benchmark starts in a fresh process, with nothing imported before."""

import subprocess
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[2] / "benchmarks"
_PROGRAMS = sorted(path.stem for path in _FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text("utf-8"))


@pytest.mark.parametrize("name", _PROGRAMS)
def test_a_benchmark_explains_itself(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    found = subprocess.run(command, cwd=_FOLDER.parent, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert f"python -m benchmarks.{name}" in found.stdout
