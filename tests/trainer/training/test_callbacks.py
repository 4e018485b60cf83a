"""Early stopping and the warm-up, by hand; the progress bar and output lines."""

import io
from pathlib import Path

import pytest
import tensorflow as tf
from rich.console import Console

from trainer.training.callbacks import Validation, patience_is_over
from trainer.training.optimizer import warmup_steps
from trainer.training.progress import TrainingProgress
from trainer.training.settings import TrainingConfig
from trainer.training.state import TrainingState


@pytest.mark.parametrize(
    ("settings", "total", "expected"),
    [
        ({}, 816, 41),  # a twentieth
        ({}, 20, 1),
        ({"warmup": 0.25}, 80, 20),
        ({"warmup": 0.0}, 80, 0),
        ({"warmup_steps": 50}, 816, 50),
        ({"warmup_steps": 50}, 20, 10),  # at most half of the training
        ({"warmup": 0.9}, 100, 50),
        ({"warmup_steps": 0}, 100, 0),
    ],
)
def test_the_warm_up_is_a_share_and_never_the_whole(settings: dict[str, float], total: int, expected: int) -> None:
    assert warmup_steps(TrainingConfig.model_validate(settings), total) == expected


@pytest.mark.parametrize(
    ("epochs", "best_epoch", "warm", "over"),
    [(4, 1, 1, False), (5, 1, 1, False), (6, 1, 1, True), (6, 1, 3, False), (8, 1, 3, True), (8, 4, 3, False)],
)
def test_patience_counts_from_the_end_of_the_warm_up(epochs: int, best_epoch: int, warm: int, over: bool) -> None:
    assert patience_is_over(epochs, best_epoch, warm, 5) == over


def _state(path: Path) -> TrainingState:
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.build([None, 1])
    model.compile(optimizer=tf.keras.optimizers.Adam())
    return TrainingState(path, model, None)


def test_validation_stops_when_patience_is_over_and_knows_the_last_gain(tmp_path: Path) -> None:
    state = _state(tmp_path / "state")
    curve = iter([0.2, 0.1, 0.1, 0.25, 0.2])
    validation = Validation(
        lambda: {"recall@10": next(curve)},
        state,
        monitor="recall@10",
        patience=1,
        warm=3,
        writer=tf.summary.create_file_writer(str(tmp_path / "logs")),
    )
    validation.set_model(state.model)
    state.model.stop_training = False
    seen = []
    for epoch in range(5):
        validation.on_epoch_end(epoch, {})
        seen.append((round(validation.gain, 6), state.model.stop_training))
    # 0.25 is 25 % above 0.2; the fourth epoch would have been the first to stop, and it is better.
    assert seen == [(0.0, False), (0.0, False), (0.0, False), (0.25, False), (0.0, True)]


def _shown(*, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120)
    with TrainingProgress("Training", 2, 4, 2, console) as progress:
        progress.on_epoch_begin(0)
        for batch in range(2):
            progress.on_train_batch_end(batch)
        progress.on_epoch_end(0, {"loss": 6.25, "val_recall@10": 0.125, "val_item_language": 1.0})
        progress.on_epoch_begin(1)
        for batch in range(4):
            progress.on_train_batch_end(batch)
        progress.on_epoch_end(1, {"loss": 5.5})
    return output.getvalue()


def test_without_a_terminal_each_epoch_is_one_plain_line() -> None:
    lines = _shown(terminal=False).splitlines()
    shown = [line.rsplit(", ", 1)[0] for line in lines if line]
    assert shown == [
        "Training, epoch 1/2: loss 6.2500, validation Recall@10 0.1250",
        "Training, epoch 2/2: loss 5.5000",
    ]


def test_on_a_terminal_there_is_a_bar_as_well() -> None:
    shown = _shown(terminal=True)
    assert "Training, epoch 1/2: loss 6.2500" in shown
    assert "100%" in shown
    assert "left" in shown
