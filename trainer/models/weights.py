"""A model's weights in a run directory."""

import shutil

import tensorflow as tf

from trainer.errors import BabelrecError, first_line
from trainer.files import atomic_directory
from trainer.runs import Run
from trainer.storage import no_room


def save_weights(run: Run, model: tf.keras.Model) -> None:
    """Writes the finished weights; a final rename makes `Run.finished` true. The caller holds the directory's lock."""
    if not run.finished:
        # From an earlier version, which wrote in place and was killed.
        shutil.rmtree(run.weights, ignore_errors=True)
    with atomic_directory(run.weights) as temporary:
        tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(temporary), max_to_keep=1).save()


def restore_weights(run: Run, model: tf.keras.Model) -> None:
    """Loads the finished weights into a built model.

    Raises:
        BabelrecError: the run is not finished, or its weights are damaged or belong to another model.
    """
    if not run.finished:
        raise BabelrecError(f"{run.path} has no trained model yet. Finish it: trainer.task fit --run-dir {run.path}")
    restore(tf.train.Checkpoint(model=model), tf.train.latest_checkpoint(str(run.weights)))


def restore(checkpoint: tf.train.Checkpoint, path: str | None) -> None:
    """Restores every object of ``checkpoint`` from ``path``, or reports what is wrong with it.

    Raises:
        BabelrecError: missing, corrupted, or from a model of another shape.
    """
    try:
        if path is None:
            raise ValueError("there is none")
        status = checkpoint.restore(path)
        status.assert_existing_objects_matched()
        status.expect_partial()
    except (tf.errors.OpError, ValueError, AssertionError, IndexError, RuntimeError) as error:
        if no_room(error):
            raise
        raise BabelrecError(
            f"The checkpoint {path or ''} can't be used: {first_line(error)}. It is damaged, or was written with other "
            "settings or by an earlier version. Remove the run directory and run `fit` again, or restore the files "
            "from a copy."
        ) from error
