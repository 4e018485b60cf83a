"""Connections and transactions of both databases."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from serving.service.store.errors import InvalidError, StoreError, UnavailableError
from serving.service.store.locks import file_lock
from serving.service.store.types import StoreSettings

_EXAMPLES = "`sqlite:////var/lib/babelrec/store.db` or `postgresql://user:password@host/database`"
_WRITER_CACHE_KIB = 65_536
_LOG_PAGES = 16_384  # of 4 KiB
# A transaction that its process has forgotten would hold up the feeds of all replicas.
_IDLE_SECONDS = 60
# Who holds a lock with one writes with another.
_FEWEST_CONNECTIONS = 2


class Database:
    """One database.

    Attributes:
        name: To be shown: without the password.
        is_sqlite: Else it is PostgreSQL.
        path: SQLite's file; None with PostgreSQL.
    """

    def __init__(self, url: str, settings: StoreSettings) -> None:
        if settings.connections < _FEWEST_CONNECTIONS:
            raise InvalidError(f"`connections` is {settings.connections}. Remedy: allow {_FEWEST_CONNECTIONS} or more.")
        parsed = _parse(url)
        self._password = parsed.password or ""
        self.name = parsed.render_as_string(hide_password=True)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.path = Path(parsed.database).absolute() if self.is_sqlite and parsed.database else None
        self._wait = settings.wait_seconds
        # SQLite lets others wait by sleeping longer and longer; within a process writers queue here instead.
        self._writer = threading.Lock()
        self._holder = threading.Lock()
        if self.path is not None:
            _create(self.path)
            parsed = parsed.set(database=str(self.path))
        if self.is_sqlite:
            self._engine = self._connect(parsed, settings.connections, self._prepare_sqlite)
            # One connection, whose memory holds the pages that nearly all writers change.
            self._writing = self._connect(parsed, 1, self._prepare_sqlite_writer)
            sa.event.listen(self._engine, "begin", _begin)
            sa.event.listen(self._writing, "begin", _begin_writing)
        else:
            self._engine = self._writing = self._connect(parsed, settings.connections, self._prepare_postgresql)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection in a transaction that sees one state of the database."""
        with self._translated(), self._engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A connection in a transaction, which is durable when the block has ended without an error."""
        alone = self._alone(self._writer) if self.is_sqlite else contextlib.nullcontext()
        with self._translated(), alone, self._writing.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def locking(self, number: int) -> Iterator[None]:
        """Holds a lock of the whole database, among all processes, until the block ends."""
        # Threads that wait for it must not hold all connections, of which its holder needs another one.
        with self._alone(self._holder):
            if self.path is not None:
                with file_lock(self.path.with_name(f"{self.path.name}.lock{number}"), self._wait):
                    yield
                return
            with self._translated(), self._engine.connect() as connection:
                # AUTOCOMMIT: the lock belongs to the connection, and no transaction is open for so long.
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCKS + number)))
                try:
                    yield
                finally:
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCKS + number)))

    def share(self, connection: sa.Connection, number: int) -> None:
        """Lets a transaction hold a lock of the whole database with others that share it, until it ends.

        SQLite has one writer at a time without it.
        """
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_LOCKS + number)))

    def seize(self, connection: sa.Connection, number: int) -> None:
        """Lets a transaction hold a lock alone that others `share`, until it ends."""
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCKS + number)))

    def erase_log(self) -> None:
        """Empties SQLite's write-ahead log, in which what was deleted is still readable, unless others are reading it.

        PostgreSQL overwrites and recycles its own by itself.
        """
        if self.is_sqlite:
            with self._translated(), self._engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # refused within a transaction

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()
        self._writing.dispose()

    def _connect(self, url: sa.URL, connections: int, prepare: Callable[[Any, object], None]) -> sa.Engine:
        engine = sa.create_engine(
            url,
            hide_parameters=True,  # errors and logs would tell ids
            pool_size=connections,
            max_overflow=0,
            pool_timeout=self._wait,
            pool_pre_ping=not self.is_sqlite,
            pool_reset_on_return="rollback",
        )
        sa.event.listen(engine, "connect", prepare)
        return engine

    @contextlib.contextmanager
    def _alone(self, lock: threading.Lock) -> Iterator[None]:
        if not lock.acquire(timeout=self._wait):
            raise UnavailableError(
                f"{self.name}: other threads have been writing for {self._wait:g} s. Remedy: try again later."
            )
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the database as `StoreError`; without their cause, which may tell the password."""
        try:
            yield
        except exc.TimeoutError:
            raise UnavailableError(
                f"{self.name}: no connection became free within {self._wait:g} s. Remedy: try again later, or allow "
                "more `connections`."
            ) from None
        except (exc.OperationalError, exc.InterfaceError) as error:
            raise UnavailableError(
                f"{self.name}: {self._reason(error)}. Remedy: check that the database runs, that its disk has space "
                "and who may use it; then try again."
            ) from None
        except exc.DBAPIError as error:
            raise StoreError(
                f"{self.name}: {self._reason(error)}. Remedy: run `python -m serving.service.store check`."
            ) from None

    def _reason(self, error: exc.DBAPIError) -> str:
        text = " ".join(str(error.orig).split()).rstrip(".")
        return text.replace(self._password, "***") if self._password else text

    def _prepare_sqlite(self, connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        connection.execute(f"PRAGMA busy_timeout = {int(self._wait * 1000)}")
        connection.execute("PRAGMA journal_mode = WAL")
        # With NORMAL a power failure takes the last transactions, which were acknowledged.
        connection.execute("PRAGMA synchronous = FULL")
        # What is erased must not remain in free pages of the file.
        connection.execute("PRAGMA secure_delete = ON")

    def _prepare_sqlite_writer(self, connection: sqlite3.Connection, record: object) -> None:
        self._prepare_sqlite(connection, record)
        connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
        # Copying from the log to the file takes most of the time; a page that changes often is then copied once.
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")

    def _prepare_postgresql(self, connection: Any, record: object) -> None:  # noqa: ANN401  the driver is optional
        settings = {
            "lock_timeout": f"{int(self._wait * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{_IDLE_SECONDS}s",
        }
        with connection.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
            # A server configured not to wait for its disk would acknowledge what it may lose.
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )
        connection.commit()


# So that it is no lock of another application in the same database.
_LOCKS = 0x42616265_00000000


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):
        raise InvalidError(f"The store's address is not a URL. Remedy: write it like {_EXAMPLES}.") from None
    shown = parsed.render_as_string(hide_password=True)
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed
    if parsed.drivername == "postgresql" and parsed.database:
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise InvalidError(f"{shown} needs psycopg. Remedy: pip install 'babelrec[postgresql]'.") from None
        return parsed.set(drivername="postgresql+psycopg")
    raise InvalidError(f"{shown} is no address of a store. Remedy: write it like {_EXAMPLES}.")


def _create(path: Path) -> None:
    """The file, which only its owner may read: it is about people."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise UnavailableError(
            f"{path}: {error.strerror}. Remedy: give the path of a file in a folder that exists and that the service "
            "may write."
        ) from None


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_writing(connection: sa.Connection) -> None:
    # A transaction that reads first could no longer write when another one has written meanwhile.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
