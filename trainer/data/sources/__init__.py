"""Preparation of a configured source as a dataset directory, created once and then reused."""

import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from trainer.config.base import Settings
from trainer.data.dataset import Dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import DatasetSource, Source
from trainer.data.sources import baskets, kmrd, markets, mind, movielens, nemig, sessions, stays, tabular
from trainer.data.sources.contents import contents
from trainer.files import cache_root, fsync_directory, staging

__all__ = ["prepare"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Adapter:
    """A source: the files it reads, how it converts them, and a version to bump when that changes."""

    inputs: Callable[[Any], list[Path]]
    write: Callable[[Any, Path], Dataset]
    version: int


_ADAPTERS: Final = {
    "movielens-100k": _Adapter(movielens.inputs, movielens.write, movielens.VERSION),
    "kmrd": _Adapter(kmrd.inputs, kmrd.write, kmrd.VERSION),
    "mind": _Adapter(mind.inputs, mind.write, mind.VERSION),
    "sessions": _Adapter(sessions.inputs, sessions.write, sessions.VERSION),
    "baskets": _Adapter(baskets.inputs, baskets.write, baskets.VERSION),
    "markets": _Adapter(markets.inputs, markets.write, markets.VERSION),
    "stays": _Adapter(stays.inputs, stays.write, stays.VERSION),
    "nemig": _Adapter(nemig.inputs, nemig.write, nemig.VERSION),
    "tabular": _Adapter(tabular.inputs, tabular.write, tabular.VERSION),
}


def prepare(source: Source) -> Dataset:
    """Returns the source as a dataset, from the cache if present.

    The cache key consists of the source's settings, the content of its input files and the version of its
    adapter. An entry that no longer validates is rebuilt.

    Args:
        source: One of `trainer.data.settings.SOURCES`.

    Raises:
        BabelrecError: The source's files are missing, can't be downloaded, are invalid or change while being read.
    """
    if isinstance(source, DatasetSource):
        return Dataset.load(source.path)
    adapter = _ADAPTERS[source.name]
    key = _key(source, adapter)
    path = cache_root() / "datasets" / f"{source.name}-{key}"
    if path.exists():
        try:
            return Dataset.load(path)
        except DatasetError as error:
            _LOG.warning("The cached dataset is damaged and will be rebuilt. %s", error)
    with staging(path) as folder:
        if path.exists():
            # Another process built it while this one waited. The damaged one is removed with the folder.
            with contextlib.suppress(DatasetError):
                return Dataset.load(path)
            path.rename(folder / "damaged")
        made = adapter.write(source, folder / path.name)
        if _key(source, adapter) != key:
            # A mix of old and new content may have been read.
            raise DatasetError(
                f"The files of the source `{source.name}` changed while being read. Remedy: run the command again "
                "when they are complete."
            )
        try:
            made.path.rename(path)
        except OSError:
            if not path.exists():
                raise
            # Another process built it meanwhile, on a file system without locks.
            return Dataset.load(path)
    fsync_directory(path.parent)
    return replace(made, path=path)


def _key(source: Settings, adapter: _Adapter) -> str:
    digest = hashlib.sha256(f"{adapter.version}\n{source.model_dump_json()}\n".encode())
    digest.update(contents(adapter.inputs(source)).encode())
    return digest.hexdigest()[:16]
