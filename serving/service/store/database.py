"""Connections and transactions of both databases."""


class Database:
    """One database."""

    def close(self) -> None:
        """Closes all connections."""
        raise NotImplementedError
