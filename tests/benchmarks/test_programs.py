"""Every benchmark starts in a fresh process, with nothing imported before."""

import subprocess
import sys
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]
# A stage of another program writes no result of its own.
_PROGRAMS = sorted(
    ".".join(path.relative_to(_REPOSITORY).with_suffix("").parts).removesuffix(".__main__")
    for path in (_REPOSITORY / "benchmarks").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text("utf-8") and path.name != "stages.py"
)


@pytest.mark.parametrize("program", _PROGRAMS)
def test_a_benchmark_explains_itself(program: str) -> None:
    command = [sys.executable, "-m", program, "--help"]
    found = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert f"python -m {program}" in found.stdout
    assert f"runs/bench/{program.rpartition('.')[2]}.json" in found.stdout
