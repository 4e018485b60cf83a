"""Every input that fuzzing kept, on every target's own: seeds, and what once failed."""

from pathlib import Path

import pytest

from tests.fuzzing.targets import TARGETS

_INPUTS = sorted(Path(__file__).with_name("corpora").glob("*/*"))


@pytest.mark.parametrize("path", _INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_kept_inputs_are_read_or_refused(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in _INPUTS} == set(TARGETS)
