"""Remembers which tables were found valid, so that a command doesn't read twenty million rows to find it again."""

import contextlib
import hashlib
import inspect
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from trainer.data import fingerprint, validation
from trainer.data.shards import shards
from trainer.files import cache_root, write_text

# A file that was changed so shortly before it was looked at may be changed again within the same tick of its clock.
_SETTLED_SECONDS: Final = 2.0
_States = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Seal:
    """What was found of a dataset's tables.

    Attributes:
        rows: Table -> number of rows.
        fingerprint: Of their content.
    """

    rows: Mapping[str, int]
    fingerprint: str


class Sealing:
    """The tables of a dataset, looked at before they are read.

    A seal holds as long as no file has another size, inode, or time of change (which, unlike that of modification,
    can't be set), and the rules of validation are the same. It lies in the user's cache, not in the dataset, which may
    be copied or read-only.

    Args:
        directory: The dataset.
        tables: All of its tables, each a file or a directory of shards.
    """

    def __init__(self, directory: Path, tables: Sequence[Path]) -> None:
        self._tables = tables
        self._path = cache_root() / "seals" / f"{hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()}.json"
        self._begun = time.time()
        self._before = self._states()

    def found(self) -> Seal | None:
        """The seal of an earlier reading, if it holds."""
        try:
            kept: dict[str, Any] = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return None
        if kept.get("rules") != _rules() or kept.get("files") != self._before:
            return None
        return Seal(kept["rows"], kept["fingerprint"])

    def keep(self, seal: Seal) -> None:
        """Remembers a seal, unless a file was changed meanwhile or just before."""
        newest = max((state[-1] for state in self._before.values()), default=0) / 1e9
        if not self._before or self._states() != self._before or newest > self._begun - _SETTLED_SECONDS:
            return
        content = {"rules": _rules(), "files": self._before, "rows": dict(seal.rows), "fingerprint": seal.fingerprint}
        # A cache that can't be written costs time, nothing else.
        with contextlib.suppress(OSError):
            write_text(self._path, json.dumps(content))

    def _states(self) -> _States:
        """Of each file; of a table that is missing nothing: reading it gives the error."""
        found = {}
        for table in self._tables:
            with contextlib.suppress(OSError):
                for file in shards(table):
                    state = file.stat()
                    found[str(file)] = [state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]
        return found


@cache
def _rules() -> str:
    """Identifies what is checked: the source of the checks."""
    digest = hashlib.sha256()
    for module in (validation, fingerprint):
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()
