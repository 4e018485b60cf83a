"""Items of the catalogue."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from serving.service.store import limits, marks, schema
from serving.service.store.errors import InvalidError, NotFoundError
from serving.service.store.part import Part
from serving.service.store.statements import Insert, insert_many, parts_of
from serving.service.types import Item, ItemChange

_items = schema.items.c
_PATCHED = [name for name in Item.__dataclass_fields__ if name != "item_id"]
_MERGED = ("numbers", "embeddings", "attributes")


class Items(Part):
    """Items and their changes."""

    def put_items(self, items: Sequence[Item]) -> dict[str, int]:
        """Inserts items or replaces them whole, in one transaction; of an id that repeats, the last one counts.

        Returns:
            The new revision of each item that changed; one that is the same as before has no new revision.
        """
        bodies = limits.each("items", items, limits.check_item)
        if not items:
            return {}
        with self._database.writing() as connection:
            return self._put(connection, {item.item_id: (item, text) for item, text in zip(items, bodies, strict=True)})

    def patch_item(self, item_id: str, changes: Mapping[str, object]) -> ItemChange:
        """Changes some fields of an item.

        Args:
            item_id: The item.
            changes: New values by field of `Item`. ``numbers``, ``embeddings`` and ``attributes`` are merged by key,
                and None removes a key; other fields are replaced.

        Raises:
            NotFoundError: there is no such item.
        """
        limits.check_id("item_id", item_id)
        with self._database.writing() as connection:
            query = sa.select(_items.body).where(_items.item_id == item_id).with_for_update()
            text = connection.execute(query).scalar_one_or_none()
            if text is None:
                raise NotFoundError("There is no such item. Remedy: put the whole item.")
            item = _patched(text, changes)
            revisions = self._put(connection, {item_id: (item, limits.check_item(item))})
            if item_id not in revisions:
                query = sa.select(_items.revision).where(_items.item_id == item_id)
                revisions[item_id] = connection.execute(query).scalar_one()
        return ItemChange(item_id=item_id, revision=revisions[item_id], item=item)

    def delete_items(self, ids: Sequence[str]) -> list[bool]:
        """Deletes items and their vectors; `items_after` tells the other replicas. A later put revives an item.

        An id that the store never had is remembered as deleted as well: the model's index may have it. There is no
        bound for these but that of ids, as there is none for items, which are larger.

        Returns:
            For each id whether there was such an item in the store.
        """
        limits.check_ids("item_id", ids)
        if not ids:
            return []
        with self._database.writing() as connection:
            changed = self._put(connection, dict.fromkeys(ids))
            vectors = schema.vectors.c
            key = (vectors.version, vectors.item_id)
            found: list[tuple[str, str]] = []
            for part in parts_of(sorted(set(ids))):
                query = sa.select(*key).where(vectors.item_id.in_(part))
                found += [(row[0], row[1]) for row in connection.execute(query)]
            for some in parts_of(sorted(found)):
                # In the order in which `put_vectors` locks them, and only these: what is put from now on is of an older
                # revision than the deletion, and nobody takes it.
                query = sa.select(*key).where(sa.tuple_(*key).in_(some)).order_by(*key).with_for_update()
                if locked := [(row[0], row[1]) for row in connection.execute(query)]:
                    connection.execute(sa.delete(schema.vectors).where(sa.tuple_(*key).in_(locked)))
        # Who is deleted first of all has the revision 1, and who was deleted before has no new one.
        return [changed.get(each, 0) > 1 for each in ids]

    def items_after(self, mark: str, limit: int = 1000) -> tuple[list[ItemChange], str]:
        """Changed items as they are now, in the order of their last changes, and the mark to continue from.

        Args:
            mark: From the previous call or `latest_mark`; empty: from the beginning.
            limit: Most changes to return; fewer mean that there are no more at present.
        """
        limits.check_limit(limit)
        rows, mark = marks.rows_after(self._database, schema.items, mark, limit)
        return [_change(row) for row in rows], mark

    def items(self, ids: Sequence[str]) -> dict[str, Item]:
        """The items that there are among ``ids``."""
        limits.check_ids("item_id", ids)
        found: dict[str, Item] = {}
        with self._database.reading() as connection:
            for part in parts_of(list(dict.fromkeys(ids))):
                query = sa.select(_items.item_id, _items.body).where(_items.item_id.in_(part), _items.body.is_not(None))
                found |= {row[0]: _decode(row[1]) for row in connection.execute(query)}
        return found

    def all_items(self, batch: int = 1000) -> Iterator[list[ItemChange]]:
        """All items with their revisions, in batches in the order of ids; no transaction is open between batches."""
        limits.check_limit(batch)
        last = ""
        while True:
            query = sa.select(schema.items).where(_items.item_id > last, _items.body.is_not(None))
            with self._database.reading() as connection:
                rows = connection.execute(query.order_by(_items.item_id).limit(batch)).all()
            if not rows:
                return
            yield [_change(row) for row in rows]
            last = rows[-1].item_id

    def count_items(self) -> int:
        """Number of items, without deleted ones."""
        query = sa.select(sa.func.count()).select_from(schema.items).where(_items.body.is_not(None))
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()

    def _put(self, connection: sa.Connection, items: Mapping[str, tuple[Item, str] | None]) -> dict[str, int]:
        """Writes items, or tombstones for None; returns the revisions of those that differ from before."""
        stamp = marks.stamp(self._database, connection)
        rows = []
        # In order, so that two transactions never wait for each other.
        for place, item_id in enumerate(sorted(items)):
            row = dict.fromkeys(("body", "valid_from", "valid_until")) | {"item_id": item_id, "available": False}
            if (put := items[item_id]) is not None:
                item, row["body"] = put
                row |= {name: getattr(item, name) for name in ("available", "valid_from", "valid_until")}
            rows.append(row | {"revision": 1, "xid": stamp.xid, "number": stamp.number(place)})
        changed = insert_many(connection, schema.items, rows, _replace, _items.item_id, _items.revision)
        return {row.item_id: row.revision for row in changed}


def _replace(statement: Insert) -> Insert:
    new = statement.excluded
    changes = {name: new[name] for name in ("body", "available", "valid_from", "valid_until", "xid", "number")}
    return statement.on_conflict_do_update(
        index_elements=["item_id"],
        set_=changes | {"revision": _items.revision + 1},
        where=_items.body.is_distinct_from(new.body),
    )


def _change(row: sa.Row[Any]) -> ItemChange:
    item = None if row.body is None else _decode(row.body)
    return ItemChange(item_id=row.item_id, revision=row.revision, item=item)


def _decode(text: str) -> Item:
    return msgspec.json.decode(text, type=Item)


def _patched(text: str, changes: Mapping[str, object]) -> Item:
    values: dict[str, Any] = msgspec.json.decode(text)
    for name, value in changes.items():
        if name not in _PATCHED:
            raise InvalidError(
                f"{name[:80]!r} is no field of an item that can be changed. Remedy: name one of {', '.join(_PATCHED)}."
            )
        if name in _MERGED and isinstance(value, Mapping):
            merged = values.get(name, {}) | value
            value = {key: each for key, each in merged.items() if each is not None}
        values[name] = value
    try:
        return msgspec.convert(msgspec.to_builtins(values), Item)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidError(
            f"The changes do not fit an item: {error}. Remedy: send values of the field's type."
        ) from None
