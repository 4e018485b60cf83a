"""``python -m benchmarks.scale.stages STAGE ...``: a part of the work as a process, whose costs are counted."""

import contextlib
import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trainer  # noqa: F401  selects Keras 2 before TensorFlow is imported
from benchmarks.scale.sizes import SIZES, make_dataset
from trainer.config.loading import load_config
from trainer.data.catalogue import Catalogue
from trainer.data.sources import prepare
from trainer.text.preparation import prepare_labels, prepare_texts
from trainer.text.vectors import encode_texts

DATA, TEXTS, STEPS = "data", "texts", "steps"
SHORT_FIT: Final = "fit of some steps"
"""A command of its own: `fit` with a short epoch."""
# Steps before those that are counted: of the first, the graph is traced.
_WARM: Final = 5


class _EnoughError(Exception):
    """The steps are done."""


def run_stage(arguments: Sequence[str]) -> None:
    """Runs one stage; ``steps`` prints JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.scale.stages", description="A part of what `fit` does.")
    stages = parser.add_subparsers(dest="stage", required=True)
    data = stages.add_parser(DATA, help="make a data set")
    data.add_argument("size", choices=tuple(SIZES))
    data.add_argument("path", type=Path)
    texts = stages.add_parser(TEXTS, help="fill the cache of text vectors")
    steps = stages.add_parser(STEPS, help="train until some steps are done, and print their costs")
    for stage in (texts, steps):
        stage.add_argument("config", type=Path)
    steps.add_argument("run_dir", type=Path)
    steps.add_argument("count", type=int)
    given = parser.parse_args(arguments)
    if given.stage == DATA:
        make_dataset(given.path, SIZES[given.size])
    elif given.stage == TEXTS:
        _encode(given.config)
    else:
        print(json.dumps(_steps(given.config, given.run_dir, given.count)))


def _encode(path: Path) -> None:
    """Fills the cache of text vectors."""
    config = load_config(path)
    catalogue = Catalogue.from_dataset(prepare(config.data.source))
    encode_texts(prepare_labels(catalogue.category_labels, config.text), config.text, progress=False)
    encode_texts(prepare_texts(catalogue.texts, catalogue.languages, config.text), config.text)


def _steps(path: Path, run_dir: Path, count: int) -> dict[str, Any]:
    """`fit` until some steps are done.

    Returns:
        ``before``: processor seconds of the process up to the end of the first step. ``step``: those of a later step.
        ``examples``: of a step. ``per_epoch``: steps of an epoch.
    """
    import tensorflow as tf

    from trainer.training.fit import fit

    moments: list[float] = []
    found: dict[str, Any] = {}

    class Count(tf.keras.callbacks.Callback):
        def on_train_begin(self, logs: object = None) -> None:
            found["per_epoch"] = self.params["steps"]

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            moments.append(time.process_time())
            if len(moments) == _WARM + count:
                raise _EnoughError

    keras_fit = tf.keras.Model.fit

    def counted(model: tf.keras.Model, *arguments: object, callbacks: list[object], **settings: object) -> object:
        return keras_fit(model, *arguments, callbacks=[*callbacks, Count()], **settings)

    # Nothing else in `fit` says when a step has ended; an epoch of the largest size takes too long to be waited for.
    tf.keras.Model.fit = counted
    config = load_config(path)
    with contextlib.suppress(_EnoughError):
        fit(config, run_dir)
    counts = moments[_WARM - 1 :]
    step = (counts[-1] - counts[0]) / (len(counts) - 1)
    return {**found, "before": moments[0], "step": step, "examples": config.training.batch_size}


if __name__ == "__main__":
    run_stage(sys.argv[1:])
