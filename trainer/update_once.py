"""``python -m trainer.update_once``: one update of a run in a process of its own, for `evaluate --protocol p5`."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.arguments import add_arguments, argument, options_of
from trainer import interrupts
from trainer.config.loading import load_config
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.runs import Run
from trainer.updating.learning import learn_on


@dataclass(frozen=True)
class _Options:
    source: Path = argument("--from", type=Path, required=True, metavar="RUN", help="a finished run")
    data: Path = argument("--data", type=Path, required=True, metavar="DATASET", help="a later state of its data")
    since: int = argument("--since", type=int, required=True, metavar="SECONDS", help="when the new events begin")
    config: Path = argument("--config", type=Path, required=True, metavar="YAML", help="its section `update` is used")
    run_dir: Path = argument("--run-dir", type=Path, required=True, metavar="DIR", help="directory of the new run")


def main(arguments: Sequence[str] | None = None) -> None:
    """Updates the run.

    Raises:
        SystemExit: a fault of the run, the data or the settings.
    """
    parser = argparse.ArgumentParser(prog="python -m trainer.update_once", description="Updates a run once.")
    add_arguments(parser, _Options)
    options = options_of(_Options, parser.parse_args(arguments))
    with interrupts.raised():
        try:
            settings = load_config(options.config).update
            learn_on(
                Run.open(options.source), Dataset.load(options.data), options.run_dir, settings, since=options.since
            )
        except BabelrecError as error:
            raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
