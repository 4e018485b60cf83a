"""A run that learns on: from another run's weights, on a later state of its data."""

import logging
import shutil
from pathlib import Path
from typing import Final

from trainer.config.settings import Config
from trainer.data.dataset import Dataset
from trainer.data.settings import DatasetSource, SplitConfig
from trainer.data.split import positives
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.models.text_search import SEARCH_RECORD
from trainer.runs import Run
from trainer.scorers.linear import linear_rank
from trainer.training.fit import fit
from trainer.updating.settings import UpdateConfig

_LOG = logging.getLogger(__name__)
# What a run has chosen on its validation part. An update has none: these numbers hardly change from day to day, and its
# newest events are better used for the gate.
_CHOICES: Final = (
    "blend.json",
    SEARCH_RECORD,
    "calibration.json",
    "regularization.json",
    "linear.json",
    "content.json",
    "popularity.json",
)


def learn_on(
    champion: Run, dataset: Dataset, run_dir: Path, settings: UpdateConfig, *, kept: int = 0, since: int | None = None
) -> Run:
    """Trains a challenger; continues where a killed one stopped.

    It starts from all of the champion's weights, the vectors of the ids that both know included. New ids start where
    the champion placed them by their content. The losses are the champion's.

    Args:
        champion: A finished run.
        dataset: A later state of its data.
        run_dir: Directory of the challenger.
        settings: How it learns.
        kept: Newest positives that it does not learn from; `trainer.updating.gate` compares both on them.
        since: Unix seconds from which on events are new to the champion, for `UpdateConfig.replay`; None: all are
            learned from alike.

    Returns:
        The finished run.

    Raises:
        BabelrecError: the champion is not finished, or there is nothing to learn from.
    """
    if not champion.finished:
        raise BabelrecError(
            f"{champion.path} is not finished, so nothing can start from it. Finish it: trainer.task fit."
        )
    config = update_config(champion, dataset, settings, kept=kept, since=since)
    run = Run.create(run_dir, config)
    for name in _CHOICES:
        if (champion.path / name).exists() and not (run.path / name).exists():
            # Renamed into place, so that a killed copy is none.
            run.write(name, champion.read(name))
    run = fit(config, run_dir)
    # A finished run doesn't resume.
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
    return run


def update_config(champion: Run, dataset: Dataset, settings: UpdateConfig, *, kept: int, since: int | None) -> Config:
    """The champion's settings, changed for an update: see `learn_on`."""
    config = champion.config
    data = config.data.model_copy(
        update={
            "source": DatasetSource(path=dataset.path),
            "split": SplitConfig(kind="global", test_fraction=0.0, validation_fraction=0.0, min_positives=1),
        }
    )
    if kept:
        total = positives(dataset, data.positives).height
        data = data.model_copy(
            update={"split": data.split.model_copy(update={"test_fraction": min(1.0, kept / total)})}
        )
    known = Vocabulary.load(champion.vocabulary)
    rank = linear_rank(config.model.linear, len(known.users), len(known.items))
    linear = config.model.linear.model_copy(update={"rank": rank})
    training = config.training
    training = training.model_copy(
        update={
            "epochs": settings.epochs,
            "start_from": champion.path.absolute(),
            "transfer": training.transfer.model_copy(
                update={
                    "shared": "train",
                    "ids": True,
                    # Not of the learning rate itself, which would shrink with each update of an update.
                    "rate": settings.rate,
                    "max_forgetting": None,
                    "anchor": 0.0,
                    "replay": 0.0,
                    "since": since,
                    "replayed": settings.replay,
                }
            ),
            "refit": False,
        }
    )
    return config.model_copy(
        update={
            "data": data,
            "model": config.model.model_copy(update={"linear": linear}),
            "training": training,
            "update": settings,
        }
    )
