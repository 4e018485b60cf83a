"""`Store`, put together from its parts."""

from types import TracebackType
from typing import Self

from serving.service.store import marks
from serving.service.store.administration import Administration
from serving.service.store.checks import check
from serving.service.store.database import Database
from serving.service.store.events import Events
from serving.service.store.finding import Finding
from serving.service.store.items import Items
from serving.service.store.popularity import Popularity
from serving.service.store.recommendations import Recommendations
from serving.service.store.segments import Segments
from serving.service.store.snapshots import Snapshots
from serving.service.store.types import CheckReport, StoreSettings
from serving.service.store.upgrade import prepare
from serving.service.store.users import Users
from serving.service.store.vectors import Vectors


class Store(Events, Items, Vectors, Users, Recommendations, Popularity, Administration, Segments, Snapshots, Finding):
    """What the service keeps, in one database; made by `open_store`, and safe to use from several threads.

    All methods raise `StoreError`; a call that raises has changed nothing.
    """

    def latest_mark(self) -> str:
        """The mark of now, for `events_after`, `items_after`, `users_changed_after` and `users_deleted_after` alike.

        Nothing that becomes visible later is missed from it; what has just been written may come again.
        """
        return marks.latest(self._database)

    def check(self) -> CheckReport:
        """Looks for damage; slow for large stores, since it reads all."""
        return check(self._database)

    def close(self) -> None:
        """Closes all connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str, *, migrate: bool = False, settings: StoreSettings | None = None) -> Store:
    """Opens a store; an empty database becomes one.

    PostgreSQL is reached directly, or through a pooler that pools sessions: locks belong to a session. A transaction
    of anybody on that server that has written something and stays open holds up the feeds.

    Args:
        url: ``sqlite:///relative/file.db``, ``sqlite:////absolute/file.db`` or
            ``postgresql://user:password@host/database``.
        migrate: Whether to upgrade the schema of an older version of Babelrec.
        settings: Default: those of `StoreSettings`.

    Raises:
        SchemaError: the schema is older and ``migrate`` is False, or it is newer.
    """
    settings = settings or StoreSettings()
    database = Database(url, settings)
    try:
        prepare(database, migrate=migrate)
    except BaseException:
        database.close()
        raise
    return Store(database, settings)
