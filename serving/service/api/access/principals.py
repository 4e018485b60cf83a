"""Who a request comes from, and what they may do."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from serving.service.errors import ForbiddenError


class Permission(Enum):
    """Something that a role allows."""

    RECOMMEND = "ask for recommendations"
    COLLECT = "send events"
    SESSIONS = "link sessions"
    TOKENS = "make tokens"
    READ = "read items, rules, figures and the log"
    MANAGE = "change items, users and rules"


ROLES: Final = {
    "app": frozenset({Permission.RECOMMEND, Permission.COLLECT, Permission.SESSIONS, Permission.TOKENS}),
    "admin": frozenset(Permission),
    "read-only": frozenset({Permission.READ}),
}
TOKEN_PERMISSIONS: Final = frozenset({Permission.RECOMMEND, Permission.COLLECT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a request comes from.

    Attributes:
        key: Name of the key, or of the key that made the token.
        permissions: What is allowed.
        is_token: Whether it is a browser with a token: then it acts for one user and session only.
        user_id, session_id: Of the token; empty: none.
    """

    key: str
    permissions: frozenset[Permission]
    is_token: bool = False
    user_id: str = ""
    session_id: str = ""

    def require(self, permission: Permission) -> None:
        """Refuses what is not allowed."""
        if permission not in self.permissions:
            who = "A token" if self.is_token else f"The key {self.key!r}"
            raise ForbiddenError(f"{who} may not {permission.value}. Remedy: use a key whose role allows it.")

    def acting_for(self, user_id: str, session_id: str) -> tuple[str, str]:
        """For whom a request is: what it names, or else what the token is for.

        Raises:
            ForbiddenError: a token is used for somebody else.
        """
        if not self.is_token:
            return user_id, session_id
        # Ids are compared by code points: those that only look alike are others.
        for name, given, own in (("user_id", user_id, self.user_id), ("session_id", session_id, self.session_id)):
            if given and given != own:
                raise ForbiddenError(f"`{name}` is not that of the token. Remedy: leave it out.")
        return self.user_id, self.session_id
