"""Steps of an epoch and rows of a batch, against values worked out by hand."""

import pytest

from trainer.data.steps import Steps
from trainer.errors import BabelrecError
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


@pytest.mark.parametrize(
    ("positives", "replicas", "size"),
    [
        (100_000, 4, 512),
        # Shrunk to 50, which four devices can't share.
        (1_000, 4, 48),
        (10, 4, 32),
    ],
)
def test_batches_can_be_shared_equally(positives: int, replicas: int, size: int) -> None:
    config = TrainingConfig(batch_size=512, min_epoch_steps=20)
    steps = Steps.plan(positives, config, replicas)
    assert steps.batch_size == size
    assert steps.per_epoch == max(20, positives // size)


def test_a_batch_size_that_devices_cannot_share_is_refused() -> None:
    with pytest.raises(BabelrecError, match=r"batch_size is 512.* multiple of 3, such as 510"):
        Steps.plan(100_000, TrainingConfig(batch_size=512), 3)
