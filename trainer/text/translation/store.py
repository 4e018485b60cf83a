"""Disk store of translations, so that no text is translated or paid for twice."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

from trainer.errors import BabelrecError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS translations (
    key BLOB PRIMARY KEY, translator TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    text TEXT NOT NULL, translation TEXT NOT NULL
) WITHOUT ROWID
"""
_KEYS_PER_QUERY = 500


class TranslationStore:
    """One SQLite file, keyed by the digest of (translator, source, target, text).

    Several processes may use it at once. A batch is written in one transaction, so that a kill loses at most the
    current batch.

    Args:
        path: The file; created, with its folder, on first write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def look_up(self, identity: str, source: str, target: str, texts: Sequence[str]) -> dict[str, str]:
        """The stored translations of ``texts``: text -> translation.

        Raises:
            BabelrecError: The file is damaged.
        """
        if not self._path.exists():
            return {}
        text_of = {_key(identity, source, target, text): text for text in texts}
        keys = list(text_of)
        found: dict[str, str] = {}
        with self._connection() as connection:
            for begin in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[begin : begin + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                rows = self._run(connection, f"SELECT key, translation FROM translations WHERE key IN ({marks})", part)
                found |= {text_of[key]: translation for key, translation in rows}
        return found

    def add(self, identity: str, source: str, target: str, translations: dict[str, str]) -> None:
        """Stores text -> translation; existing entries are replaced.

        Raises:
            BabelrecError: The file is damaged or can't be written.
        """
        rows = [
            (_key(identity, source, target, text), identity, source, target, text, translation)
            for text, translation in translations.items()
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            self._run(connection, _SCHEMA, ())
            try:
                with connection:
                    connection.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?, ?, ?, ?, ?)", rows)
            except sqlite3.Error as error:
                raise self._fault(error) from error

    def _connection(self) -> "closing[sqlite3.Connection]":
        return closing(sqlite3.connect(self._path, timeout=60.0))

    def _run(self, connection: sqlite3.Connection, statement: str, values: Iterable[object]) -> list[tuple[bytes, str]]:
        try:
            return connection.execute(statement, tuple(values)).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise self._fault(error) from error
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: sqlite3.Error) -> BabelrecError:
        damaged = getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
        remedy = (
            "Remove the file to start a new one" if damaged else "Check that there is free space and write permission"
        )
        return BabelrecError(f"The store of translations {self._path} can't be used: {error}. {remedy}.")


def _key(*parts: str) -> bytes:
    digest = blake2b(digest_size=20)
    for part in parts:
        content = part.encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()
