"""Rules, keys and the log of what administrators did."""

import time

import sqlalchemy as sa

from serving.service.store import limits, schema
from serving.service.store.errors import ConflictError, NotFoundError
from serving.service.store.part import Part
from serving.service.store.statements import insert
from serving.service.store.types import AuditEntry, Key

_rules, _keys, _audit = schema.rules.c, schema.keys.c, schema.audit.c


class Administration(Part):
    """Rules, keys and the audit log."""

    def put_rules(self, text: str, author: str) -> int:
        """Stores a new revision of the rules, and returns its number; earlier ones are kept."""
        limits.check_text("rules", text, limits.BODY_BYTES)
        limits.check_id("author", author)
        with self._database.writing() as connection:
            if not self._database.is_sqlite:
                # Two authors at once would take the same number.
                connection.execute(sa.text("LOCK TABLE rules IN EXCLUSIVE MODE"))
            last = connection.execute(sa.select(sa.func.max(_rules.revision))).scalar_one() or 0
            row = {"revision": last + 1, "text": text, "author": author, "timestamp": int(time.time())}
            connection.execute(sa.insert(schema.rules), row)
        return int(last) + 1

    def rules(self) -> tuple[str, int]:
        """The newest rules and their revision; an empty text and 0 if there are none."""
        query = sa.select(_rules.text, _rules.revision).order_by(_rules.revision.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return ("", 0) if row is None else (row[0], row[1])

    def add_key(self, name: str, role: str, hash: str) -> None:
        """Stores a key.

        Raises:
            ConflictError: there is or was a key of that name.
        """
        for field, value in (("name", name), ("role", role), ("hash", hash)):
            limits.check_id(field, value)
        row = {"name": name, "role": role, "hash": hash, "created": int(time.time())}
        with self._database.writing() as connection:
            statement = insert(connection, schema.keys).values(row).on_conflict_do_nothing().returning(_keys.name)
            if connection.execute(statement).one_or_none() is None:
                raise ConflictError(
                    f"There is or was a key {name!r}. Remedy: choose another name, so that the log stays clear."
                )

    def keys(self) -> list[Key]:
        """All keys, revoked ones too, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(schema.keys).order_by(_keys.name))
            return [Key(**row) for row in rows.mappings()]

    def revoke_key(self, name: str) -> None:
        """Ends a key's validity.

        Raises:
            NotFoundError: there is no valid key of that name.
        """
        limits.check_id("name", name)
        statement = sa.update(schema.keys).where(_keys.name == name, _keys.revoked.is_(None))
        with self._database.writing() as connection:
            if connection.execute(statement.values(revoked=int(time.time()))).rowcount == 0:
                raise NotFoundError(f"There is no valid key {name!r}. Remedy: list the keys.")

    def audit(self, actor: str, action: str, target: str, detail: str = "") -> None:
        """Adds to the log."""
        row = {"actor": actor, "action": action, "target": target, "detail": detail}
        for name, value in row.items():
            limits.check_text(name, value)
        with self._database.writing() as connection:
            connection.execute(sa.insert(schema.audit), row | {"timestamp": int(time.time())})

    def audit_log(self, limit: int = 100) -> list[AuditEntry]:
        """The newest entries, the newest first."""
        limits.check_limit(limit)
        columns = (_audit.timestamp, _audit.actor, _audit.action, _audit.target, _audit.detail)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(*columns).order_by(_audit.number.desc()).limit(limit))
            return [AuditEntry(**row) for row in rows.mappings()]
