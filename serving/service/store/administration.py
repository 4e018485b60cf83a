"""Rules, keys and the log of what administrators did."""

from serving.service.store.part import Part
from serving.service.store.types import AuditEntry, Key


class Administration(Part):
    """Rules, keys and the audit log."""

    def put_rules(self, text: str, author: str) -> int:
        """Stores a new revision of the rules, and returns its number; earlier ones are kept."""
        raise NotImplementedError

    def rules(self) -> tuple[str, int]:
        """The newest rules and their revision; an empty text and 0 if there are none."""
        raise NotImplementedError

    def add_key(self, name: str, role: str, hash: str) -> None:
        """Stores a key.

        Raises:
            ConflictError: there is or was a key of that name.
        """
        raise NotImplementedError

    def keys(self) -> list[Key]:
        """All keys, revoked ones too, by name."""
        raise NotImplementedError

    def revoke_key(self, name: str) -> None:
        """Ends a key's validity.

        Raises:
            NotFoundError: there is no valid key of that name.
        """
        raise NotImplementedError

    def audit(self, actor: str, action: str, target: str, detail: str = "") -> None:
        """Adds to the log."""
        raise NotImplementedError

    def audit_log(self, limit: int = 100) -> list[AuditEntry]:
        """The newest entries, the newest first."""
        raise NotImplementedError
