"""Updates of updates."""

import pytest

from trainer.data.dataset import Dataset
from trainer.runs import Run
from trainer.training.optimizer import make_optimizer
from trainer.updating.learning import update_config
from trainer.updating.settings import UpdateConfig

pytestmark = pytest.mark.usefixtures("cache")


def test_the_learning_rate_does_not_shrink_from_update_to_update(tiny_run: Run, tiny: Dataset) -> None:
    settings, steps = UpdateConfig(rate=0.5), 100
    # `tiny_config` has a peak of 0.01 after 5 steps of warm-up.
    config = tiny_run.config
    for expected in (0.01, 0.005, 0.005, 0.005):
        schedule = make_optimizer(config.training, steps).get_config()["learning_rate"]["config"]
        assert schedule["peak"] == pytest.approx(expected)
        config = update_config(Run(tiny_run.path, config), tiny, settings, kept=0, since=None)
