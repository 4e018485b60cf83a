"""People and items as somebody who administers the service looks for them: a few, by parts of their names."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from serving.service.store import limits, schema
from serving.service.store.part import Part
from serving.service.store.types import FoundPerson
from serving.service.types import Item, User

_events, _items, _users = schema.events.c, schema.items.c, schema.users.c
# The newest events and items that are looked through, so that a large store answers too.
_MOST_EVENTS: Final = 2_000
_MOST_ITEMS: Final = 200_000
_BATCH: Final = 1_000


class _Named(msgspec.Struct):
    """The part of an item that is searched first."""

    title: str = ""


class Finding(Part):
    """Looking for people and items."""

    def find_people(self, text: str = "", limit: int = 20) -> list[FoundPerson]:
        """People with a profile or an event whose ids start with a text, in their order, the exact one first.

        Without a text they are those of the newest events, the last first, and then those of any profiles.
        """
        limits.check_limit(limit)
        limits.check_text("text", text, limits.ID_BYTES)
        with self._database.reading() as connection:
            if text:
                ids = _starting_with(connection, text, limit)
            else:
                newest = sa.select(_events.user_id).order_by(_events.timestamp.desc()).limit(_MOST_EVENTS)
                active = [user_id for user_id in connection.execute(newest).scalars() if user_id]
                others = connection.execute(sa.select(_users.user_id).order_by(_users.user_id).limit(limit)).scalars()
                ids = list(dict.fromkeys([*active, *others]))[:limit]
            profiles = {
                row.user_id: msgspec.json.decode(row.body, type=User)
                for row in connection.execute(sa.select(_users.user_id, _users.body).where(_users.user_id.in_(ids)))
            }
            last = sa.select(_events.user_id, sa.func.max(_events.timestamp)).where(_events.user_id.in_(ids))
            times = {row[0]: row[1] for row in connection.execute(last.group_by(_events.user_id))}
        return [
            FoundPerson(
                user_id=user_id,
                languages=profiles[user_id].languages if user_id in profiles else (),
                last_event=times.get(user_id),
            )
            for user_id in ids
        ]

    def find_items(self, text: str = "", limit: int = 20) -> list[Item]:
        """Items, also those that may not be shown now: the one of this id, then those whose titles have the text.

        Titles are compared without regard to case; items that were changed last come first.
        """
        limits.check_limit(limit)
        limits.check_text("text", text)
        wanted = text.casefold()
        with self._database.reading() as connection:
            exact = sa.select(_items.body).where(_items.item_id == text, _items.body.is_not(None))
            found = [msgspec.json.decode(body, type=Item) for body in connection.execute(exact).scalars()]
            for item_id, body in _newest_items(connection):
                if len(found) >= limit:
                    break
                if item_id != text and wanted in msgspec.json.decode(body, type=_Named).title.casefold():
                    found.append(msgspec.json.decode(body, type=Item))
        return found


def _starting_with(connection: sa.Connection, text: str, limit: int) -> list[str]:
    found: set[str] = set()
    # A range, which both databases read from the index; LIKE would need its signs to be escaped.
    for column in (_users.user_id, _events.user_id):
        query = sa.select(column).where(column >= text, column < text + "\U0010ffff").distinct()
        found.update(connection.execute(query.order_by(column).limit(limit)).scalars())
    return sorted(found)[:limit]


def _newest_items(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    query = (
        sa.select(_items.item_id, _items.body)
        .where(_items.body.is_not(None))
        .order_by(_items.xid.desc(), _items.number.desc())
        .limit(_MOST_ITEMS)
    )
    rows: sa.CursorResult[Any] = connection.execution_options(yield_per=_BATCH).execute(query)
    for row in rows:
        yield row.item_id, row.body
