"""The example of docs/simulation.md does what it says."""

import re
from pathlib import Path
from typing import Any

from benchmarks.simulation.driver import Run, figures

_PAGE = Path(__file__).parents[3] / "docs" / "simulation.md"


def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example.replace("range(7)", "range(2)"), str(_PAGE), "exec"), names)
    done: Run = names["done"]
    assert len(done) > 200
    assert 0 < figures(done, done.targets["newest"]).ctr < figures(done, done.expected).ctr * 2
    assert names["outcome"].clicked.shape == names["lists"].shape == (len(names["requests"]), 10)
