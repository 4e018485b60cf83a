"""Progress of `fit`: a bar with the remaining time on a terminal, and a line per epoch everywhere."""

import time
from types import TracebackType
from typing import Any, Final, Self

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Keras's name -> displayed name, in this order.
_SHOWN: Final = {"loss": "loss", "val_recall@10": "validation Recall@10", "val_ndcg@10": "NDCG@10", "val_auc": "AUC"}


class TrainingProgress(tf.keras.callbacks.Callback):
    """Shows steps and epochs. A context manager: the bar is shown inside the block.

    Args:
        title: Shown before the bar and each line.
        start: Step of the first batch.
        per_epoch: Steps per epoch.
        epochs: Planned number of epochs.
        console: Output; None: stdout. Without a terminal there is no bar, and lines are plain.
    """

    def __init__(self, title: str, start: int, per_epoch: int, epochs: int, console: Console | None = None) -> None:
        super().__init__()
        self._title = title
        self._epochs = epochs
        self._console = console or Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            self._description(start // per_epoch), total=epochs * per_epoch, completed=start
        )
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows the epoch."""
        self._began = time.monotonic()
        self._bar.update(self._task, description=self._description(epoch))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advances the bar."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Prints the epoch's line."""
        figures = [f"{label} {float(logs[name]):.4f}" for name, label in _SHOWN.items() if logs and name in logs]
        seconds = time.monotonic() - self._began
        line = ", ".join([*figures, f"{seconds:.1f} s"])
        self._console.print(f"{self._description(epoch)}: {line}", highlight=False, markup=False, soft_wrap=True)

    def _description(self, epoch: int) -> str:
        return f"{self._title}, epoch {min(epoch + 1, self._epochs)}/{self._epochs}"
