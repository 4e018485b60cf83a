"""From a source in the settings to a dataset directory, made once and then reused."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from trainer.config import DatasetSource, Source
from trainer.data.dataset import HEADER, Dataset
from trainer.data.faults import DatasetError
from trainer.data.sources import kmrd, mind, movielens, tabular
from trainer.data.sources.contents import contents
from trainer.files import cache_root, fsync_directory

__all__ = ["prepare"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Adapter:
    """A source: the files it reads, what it makes of them, and a version to raise when that changes."""

    inputs: Callable[[Any], list[Path]]
    write: Callable[[Any, Path], Dataset]
    version: int


_ADAPTERS: Final = {
    "movielens-100k": _Adapter(movielens.inputs, movielens.write, movielens.VERSION),
    "kmrd": _Adapter(kmrd.inputs, kmrd.write, kmrd.VERSION),
    "mind": _Adapter(mind.inputs, mind.write, mind.VERSION),
    "tabular": _Adapter(tabular.inputs, tabular.write, tabular.VERSION),
}


def prepare(source: Source) -> Dataset:
    """Returns the source as a dataset, from the cache if it is there.

    The cache entry is found by the settings of the source, the content of its input files and the version of its
    adapter. An entry that no longer validates is remade.

    Args:
        source: One of the sources of `trainer.config`.

    Raises:
        BabelrecError: The source's files are missing, can't be downloaded, are broken or change while they are read.
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
            _LOG.warning("The cached dataset is damaged and is made again. %s", error)
            _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp") as staging:
        made = adapter.write(source, Path(staging) / path.name)
        if _key(source, adapter) != key:
            # What was read may be half of the old and half of the new.
            raise DatasetError(
                f"The files of the source `{source.name}` changed while they were read. Remedy: run the command again "
                "when they are complete."
            )
        try:
            made.path.rename(path)
        except OSError:
            if not path.exists():
                raise
            # Another process made it meanwhile.
            return Dataset.load(path)
    fsync_directory(path.parent)
    return replace(made, path=path)


def _key(source: Any, adapter: _Adapter) -> str:
    digest = hashlib.sha256(f"{adapter.version}\n{source.model_dump_json()}\n".encode())
    digest.update(contents(adapter.inputs(source)).encode())
    return digest.hexdigest()[:16]


def _remove(path: Path) -> None:
    # The header goes first, so that a removal that is killed half-way leaves nothing that looks whole.
    (path / HEADER).unlink(missing_ok=True)
    shutil.rmtree(path)
