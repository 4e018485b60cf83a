"""The processes that train one model together (`tf.distribute`): one, or the workers of TF_CONFIG.

Each makes its share of every batch and holds the whole model; gradients are added up over all of them. The chief alone
validates, decides, and writes; the others learn its decisions.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer import interrupts
from trainer.data.pipeline import TrainingData
from trainer.data.shares import Share
from trainer.errors import BabelrecError, first_line
from trainer.storage import explain
from trainer.training.tf_config import Place, read_place

_LOG = logging.getLogger(__name__)
_AGAIN: Final = "Run the same command on every machine again: training continues from the last checkpoint."
# What TensorFlow raises when a worker doesn't answer, or has ended.
_LOST: Final = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
# Bytes of variables sent at a time: a copy of them is in memory meanwhile.
_MESSAGE: Final = 1 << 28


class Cluster:
    """The processes of one `fit`.

    Args:
        strategy: Of this process.
        place: Its place among them.
    """

    def __init__(self, strategy: tf.distribute.Strategy, place: Place) -> None:
        self._strategy = strategy
        self.place = place
        self.replicas = int(strategy.num_replicas_in_sync)
        """Devices that share a batch, over all processes."""

    @classmethod
    def alone(cls) -> Self:
        """This process, with one device."""
        return cls(tf.distribute.get_strategy(), Place())

    @classmethod
    def from_environment(cls, *, all_gpus: bool = False) -> Self:
        """As TF_CONFIG says; call it before anything else uses TensorFlow.

        It returns when all workers have come.

        Args:
            all_gpus: Without TF_CONFIG: whether to use all GPUs of this machine, if there are several.

        Raises:
            BabelrecError: TF_CONFIG is wrong, or the other workers can't be reached.
        """
        place = read_place(os.environ.get("TF_CONFIG"))
        if place.workers == 1:
            several = all_gpus and len(tf.config.list_physical_devices("GPU")) > 1
            return cls(tf.distribute.MirroredStrategy(), place) if several else cls.alone()
        _LOG.info("Worker %d of %d: waiting for the others.", place.number + 1, place.workers)
        with _explained():
            try:
                # Ctrl+C ends the wait. SIGTERM doesn't: TensorFlow puts a handler of its own in place.
                with interrupts.fatal():
                    cluster = cls(tf.distribute.MultiWorkerMirroredStrategy(), place)
                    # The first message waits for all of them.
                    cluster.agree(0)
                return cluster
            except RuntimeError as error:
                raise BabelrecError(
                    f"Training on several machines can't begin here: {first_line(error)}. Remedy: train with `python "
                    "-m trainer.task fit`, or call `fit` before anything else uses TensorFlow; or unset TF_CONFIG."
                ) from error

    @property
    def chief(self) -> bool:
        """Whether this process decides and writes."""
        return self.place.number == 0

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """A block in which a model's variables are created: by all workers, in the same order.

        Nothing else may create a variable in it, nor in what `fit` calls back, on the chief alone: the others would not
        answer.
        """
        with self._strategy.scope():
            yield

    def batches(self, data: TrainingData, *, start: int, stop: int) -> tf.data.Dataset:
        """The shares of this process's devices of the batches of steps ``start`` to ``stop - 1``, for Keras's `fit`."""
        if self.replicas == 1:
            return data.batches(start=start, stop=stop)

        def shares(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = context.num_replicas_in_sync // context.num_input_pipelines
            share = Share(context.num_replicas_in_sync, context.input_pipeline_id * count, count)
            return data.batches(start=start, stop=stop, share=share)

        return self._strategy.distribute_datasets_from_function(shares)

    def agree(self, value: int) -> int:
        """The chief's value, on every worker; waits for all of them."""
        if self.place.workers == 1:
            return value
        return int(self._sum([tf.constant(value if self.chief else 0, tf.int64)])[0].numpy())

    def copy_from_chief(self, variables: Iterable[tf.Variable]) -> None:
        """Gives every worker the chief's values of the same variables."""
        if self.place.workers == 1:
            return
        for part in _messages(variables):
            given = [tf.convert_to_tensor(variable) for variable in part]
            found = self._sum(given if self.chief else [tf.zeros_like(value) for value in given])
            for variable, value in zip(part, found, strict=True):
                variable.assign(value)

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Compares what must be equal on all workers.

        Args:
            facts: Name of each, for people, and its text.

        Raises:
            BabelrecError: some differ, reported alike by all workers.
        """
        workers = self.place.workers
        if workers == 1:
            return
        mine = np.zeros((workers, len(facts)), np.int64)
        mine[self.place.number] = [_digest(text) for text in facts.values()]
        found: npt.NDArray[np.int64] = self._sum([tf.constant(mine)])[0].numpy()
        different = [name for place, name in enumerate(facts) if len(set(found[:, place])) > 1]
        if different:
            which = [str(number + 1) for number in range(1, workers) if (found[number] != found[0]).any()]
            raise BabelrecError(
                f"The workers of this training have different {' and '.join(different)}: compare worker "
                f"{', '.join(which)} with worker 1. Remedy: give all of them the same, and start all again."
            )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns what TensorFlow says about a lost worker into a `BabelrecError` that names the remedy."""
        if self.place.workers == 1:
            yield
            return
        with _explained():
            yield

    def _sum(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The sums over all workers of values of one type."""
        here = self.replicas // self.place.workers

        def total() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            # One of a worker's devices speaks for it.
            speaks = tf.equal(context.replica_id_in_sync_group % here, 0)
            given = [tf.where(speaks, value, tf.zeros_like(value)) for value in values]
            return list(context.all_reduce(tf.distribute.ReduceOp.SUM, given))

        totals = tf.function(lambda: self._strategy.run(total))()
        return [self._strategy.experimental_local_results(each)[0] for each in totals]


def _messages(variables: Iterable[tf.Variable]) -> Iterator[list[tf.Variable]]:
    """Variables of one type each, together no larger than a message unless a single one is."""
    by_type: dict[tf.DType, list[tf.Variable]] = {}
    for variable in variables:
        by_type.setdefault(variable.dtype, []).append(variable)
    for given in by_type.values():
        message: list[tf.Variable] = []
        size = 0
        for variable in given:
            own = int(np.prod(variable.shape)) * variable.dtype.size
            if message and size + own > _MESSAGE:
                yield message
                message, size = [], 0
            message.append(variable)
            size += own
        yield message


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except _LOST as error:
        if explain(error) is not None:
            # A full disk, and the like.
            raise
        raise BabelrecError(
            f"Another worker of this training is lost ({type(error).__name__}; its own log says why). {_AGAIN}"
        ) from error


def _digest(text: str) -> int:
    """A number that differs when the text does, in 56 bits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
