"""Vectors of fresh items, so that only one replica has to encode a text."""

from collections.abc import Collection, Iterator, Mapping

from serving.service.store.part import Part


class Vectors(Part):
    """Vectors by version of the model."""

    def put_vectors(self, version: str, vectors: Mapping[str, tuple[int, bytes]]) -> None:
        """Stores vectors: item id -> (revision of the item, bytes). One of an older revision changes nothing."""
        raise NotImplementedError

    def vectors(self, version: str, batch: int = 1000) -> Iterator[tuple[str, int, bytes]]:
        """Item id, revision and bytes of all vectors of a version."""
        raise NotImplementedError

    def drop_vectors(self, keep: Collection[str]) -> int:
        """Deletes those of all other versions; returns how many."""
        raise NotImplementedError
