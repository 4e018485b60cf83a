"""Vectors of fresh items, so that only one replica has to encode a text."""

from collections.abc import Collection, Iterator, Mapping

import sqlalchemy as sa

from serving.service.store import limits, schema
from serving.service.store.errors import InvalidError
from serving.service.store.part import Part
from serving.service.store.statements import upsert

_vectors = schema.vectors.c


class Vectors(Part):
    """Vectors by version of the model."""

    def put_vectors(self, version: str, vectors: Mapping[str, tuple[int, bytes]]) -> None:
        """Stores vectors: item id -> (revision of the item, bytes). One of an older revision changes nothing."""
        limits.check_id("version", version)
        limits.check_ids("item_id", vectors.keys())
        rows, size = [], 0
        for item_id, (revision, vector) in vectors.items():
            if len(vector) > limits.VECTOR_BYTES:
                raise InvalidError(
                    f"A vector has {len(vector):,} bytes; at most {limits.VECTOR_BYTES:,}. Remedy: send one vector."
                )
            if not 0 <= revision < 2**63:
                raise InvalidError(f"The revision of a vector is {revision}. Remedy: give that of its item.")
            size += len(vector)
            if size > limits.CALL_BYTES:
                raise InvalidError(f"The vectors have over {limits.CALL_BYTES:,} bytes. Remedy: send them in parts.")
            rows.append({"version": version, "item_id": item_id, "revision": revision, "vector": vector})
        with self._database.writing() as connection:
            upsert(connection, schema.vectors, rows, ("revision", "vector"), older=_vectors.revision)

    def vectors(self, version: str, batch: int = 1000) -> Iterator[tuple[str, int, bytes]]:
        """Item id, revision and bytes of all vectors of a version."""
        limits.check_id("version", version)
        limits.check_limit(batch)
        last = ""
        while True:
            query = sa.select(_vectors.item_id, _vectors.revision, _vectors.vector)
            query = query.where(_vectors.version == version, _vectors.item_id > last)
            with self._database.reading() as connection:
                rows = connection.execute(query.order_by(_vectors.item_id).limit(batch)).all()
            if not rows:
                return
            yield from ((row[0], row[1], bytes(row[2])) for row in rows)
            last = rows[-1][0]

    def drop_vectors(self, keep: Collection[str]) -> int:
        """Deletes those of all other versions; returns how many."""
        limits.check_ids("version", keep)
        with self._database.writing() as connection:
            return connection.execute(sa.delete(schema.vectors).where(_vectors.version.not_in(keep))).rowcount
