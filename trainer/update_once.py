"""``python -m trainer.update_once RUN DATASET RUN_DIR``: one update, in a process of its own.

The new run in RUN_DIR continues the finished RUN on DATASET, a later state of its data.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer import interrupts
from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.runs import Run
from trainer.updating.update import UpdateSettings, update_run


def main(arguments: Sequence[str]) -> None:
    """Updates the run.

    Raises:
        SystemExit: a fault of the run, the data or the settings.
    """
    champion, dataset, run_dir = map(Path, arguments)
    with interrupts.raised():
        try:
            update_run(Run.open(champion), Dataset.load(dataset), run_dir, UpdateSettings())
        except BabelrecError as error:
            raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(sys.argv[1:])
