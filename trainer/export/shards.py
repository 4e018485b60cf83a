"""`export` with ``export.shards`` above 1: as many models, each with a share of the items, that answer as one."""

import gc
import logging
import uuid
from contextlib import ExitStack
from pathlib import Path

from trainer.data.dataset import Dataset
from trainer.errors import BabelrecError
from trainer.export.export import build, check_model_dir, newest_version, write
from trainer.export.shares import Share
from trainer.files import atomic_directory
from trainer.locks import writing_alone
from trainer.runs import Run

_LOG = logging.getLogger(__name__)


def export_shards(run: Run, model_dir: Path, later: Dataset | None = None) -> list[Path]:
    """Writes the next version of each shard, under one number and one export id.

    The shards are built one after another, so that only one of them is in memory, and appear together once all are
    complete.

    Args:
        run: A finished run; its setting ``export.shards`` is N.
        model_dir: ``models/recommender`` writes ``models/recommender-00-of-03/VERSION`` and so on.
        later: As for `trainer.export.export.export`.

    Returns:
        The N version directories.

    Raises:
        BabelrecError: the run is not finished, its data changed, a share has no items, or the index settings don't fit.
    """
    count = run.config.export.shards
    shares = [Share(index, count) for index in range(count)]
    directories = [share.directory(model_dir) for share in shares]
    for directory in directories:
        check_model_dir(directory)
    if model_dir.exists() and newest_version(model_dir) is not None:
        raise BabelrecError(
            f"{model_dir} holds versions of one model over all items. Give the shards another --model-dir."
        )
    export_id = uuid.uuid4().hex
    with ExitStack() as stack:
        # Always in this order, so that two exports can't wait for each other.
        for directory in directories:
            stack.enter_context(writing_alone(directory, wait=True))
        newest = [newest_version(directory) for directory in directories]
        number = 1 + max((int(version.name) for version in newest if version is not None), default=0)
        versions = [directory / str(number) for directory in directories]
        for share, version, before in zip(shares, versions, newest, strict=True):
            temporary = stack.enter_context(atomic_directory(version))
            _LOG.info("Writing %s.", version)
            built = build(run, later, share, newest=before, export_id=export_id)
            about = {"shard": {"index": share.index, "count": share.count, "export_id": export_id}}
            write(run, built, temporary, model_name=model_dir.resolve().name, about=about)
            # Its graphs refer to each other in circles.
            del built
            gc.collect()
    return versions
