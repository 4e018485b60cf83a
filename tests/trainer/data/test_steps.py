"""Steps of an epoch and rows of a batch, against values worked out by hand."""

import pytest

from trainer.data.steps import Steps
from trainer.training.settings import TrainingConfig


@pytest.mark.parametrize(
    ("positives", "settings", "batch_size", "per_epoch"),
    [
        # 35,000 // 20 is above 512: as configured, and 35,000 // 512 = 68.
        (35_000, {}, 512, 68),
        # 2,163 // 20 = 108, and 2,163 // 108 = 20.
        (2_163, {}, 108, 20),
        # 300 // 20 = 15 is below 32 rows, so that 20 steps show each positive about twice.
        (300, {}, 32, 20),
        (1, {}, 32, 20),
        (2_163, {"min_epoch_steps": 1}, 512, 4),
        (100, {"min_epoch_steps": 1}, 512, 1),
        (2_163, {"min_epoch_steps": 4}, 512, 4),
        (2_163, {"batch_size": 16}, 16, 135),
        (2_163, {"epoch_steps": 7}, 108, 7),
    ],
)
def test_batches_shrink_until_an_epoch_has_its_steps(
    positives: int, settings: dict[str, int], batch_size: int, per_epoch: int
) -> None:
    assert Steps.plan(positives, TrainingConfig.model_validate(settings)) == Steps(batch_size, per_epoch)
