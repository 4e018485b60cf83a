"""Fuzzes a target by coverage (atheris, on libFuzzer): python -m tests.fuzzing rest [libFuzzer's options].

New inputs that reach new code go to .fuzzing/TARGET, and an input that fails to the working directory, named crash-...;
put it into tests/fuzzing/corpora/TARGET once it is understood: tests/fuzzing/test_corpora.py then tries it each time.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["serving.server", "trainer.config", "trainer.data.sources", "trainer.documents"]
):
    from tests.fuzzing.targets import TARGETS

_CORPORA = Path(__file__).with_name("corpora")


def main() -> None:
    """Fuzzes until libFuzzer's options end it."""
    name, *options = sys.argv[1:] or [""]
    if name not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzzing {'|'.join(TARGETS)} [-max_total_time=60 ...]")
    found = Path(".fuzzing", name)
    found.mkdir(parents=True, exist_ok=True)
    atheris.Setup([sys.argv[0], *options, str(found), str(_CORPORA / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
