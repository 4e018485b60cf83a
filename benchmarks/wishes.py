"""Free-text wishes in 16 languages on a run: overlap@10 with the English answer, NDCG@10 by genre labels."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.environment import environment
from trainer.errors import BabelrecError
from trainer.evaluation.wishes import evaluate_wishes, load_wishes, to_markdown, write_wishes
from trainer.runs import Run

_HERE = Path(__file__).resolve().parent
WISHES = _HERE / "wishes.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wishes", description=__doc__)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/wishes"), metavar="DIR", help="a finished run")
    parser.add_argument("--wishes", type=Path, default=WISHES, metavar="YAML", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"), metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        results = evaluate_wishes(Run.open(options.run_dir), load_wishes(options.wishes))
    except BabelrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = write_wishes(
        results,
        options.output,
        stem=options.wishes.stem,
        facts={"run": options.run_dir.name, "environment": environment(["tensorflow", "numpy"])},
    )
    print(to_markdown(results))
    print("Written: " + ", ".join(str(path) for path in files), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
