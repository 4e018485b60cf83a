from pathlib import Path

import pytest

from benchmarks.harness import sources


def test_only_what_a_program_does_changes_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""Doc."""\n\ndef f(x):\n    """Doc."""\n    return x + 1  # one\n')
    before = sources.digest(["*.py"], tmp_path)
    file.write_text('"""Another."""\ndef f(x):\n    return (\n        x + 1\n    )\n')
    assert sources.digest(["*.py"], tmp_path) == before
    file.write_text("def f(x):\n    return x + 2\n")
    assert sources.digest(["*.py"], tmp_path) != before
    with pytest.raises(ValueError, match="nothing"):
        sources.digest(["nothing*"], tmp_path)
