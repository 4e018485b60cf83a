"""From a source in the settings to a dataset directory, made once and then reused."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainer.config import DatasetSource, Source
from trainer.data.dataset import HEADER, Dataset
from trainer.data.faults import DatasetError
from trainer.data.sources import kmrd, mind, movielens, tabular
from trainer.files import cache_root

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

    The cache entry is found by the settings of the source, the size and time of its input files and the
    version of its adapter. An entry that no longer validates is remade.

    Args:
        source: One of the sources of `trainer.config`.

    Raises:
        BabelrecError: The source's files are missing, can't be downloaded or are broken.
    """
    if isinstance(source, DatasetSource):
        return Dataset.load(source.path)
    adapter = _ADAPTERS[source.name]
    path = cache_root() / "datasets" / f"{source.name}-{_key(source, adapter)}"
    if path.exists():
        try:
            return Dataset.load(path)
        except DatasetError as error:
            _LOG.warning("The cached dataset is damaged and is made anew. %s", error)
            _remove(path)
    try:
        return adapter.write(source, path)
    except FileExistsError:
        # Another process made it meanwhile.
        return Dataset.load(path)


def _key(source: Source, adapter: _Adapter) -> str:
    digest = hashlib.sha256(f"{adapter.version}\n{source.model_dump_json()}".encode())
    for file in adapter.inputs(source):
        try:
            status = file.stat()
        except OSError as error:
            raise DatasetError(
                f"{file} of the source `{source.name}` can't be read: {error.strerror}. Remedy: correct its path."
            ) from error
        digest.update(f"\n{file.resolve()} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _remove(path: Path) -> None:
    # The header goes first, so that a removal that is killed half-way leaves nothing that looks whole.
    (path / HEADER).unlink(missing_ok=True)
    shutil.rmtree(path)
