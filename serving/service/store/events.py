"""Events, and the histories made of them."""

from collections.abc import Sequence

from serving.service.store.part import Part
from serving.service.types import Event, Interaction


class Events(Part):
    """Events and sessions."""

    def append_events(self, events: Sequence[Event]) -> list[bool]:
        """Stores events in one transaction; they are durable when it returns.

        Returns:
            For each event whether it is new: False if its ``event_id`` was there already, or earlier in this call.
        """
        raise NotImplementedError

    def events_after(self, mark: str, limit: int = 1000) -> tuple[list[Event], str]:
        """Events in the order in which they became visible, and the mark to go on from.

        Args:
            mark: From the previous call or `latest_mark`; empty: from the beginning.
            limit: Most events to return; fewer mean that there are no more at present.
        """
        raise NotImplementedError

    def history(self, user_id: str = "", session_id: str = "", limit: int = 100) -> list[Interaction]:
        """The newest events with an item, the newest last.

        A user's are those with that ``user_id`` and the anonymous ones of sessions linked to the user. A session's are
        added to them; without a user they are all of that session.
        """
        raise NotImplementedError

    def link_session(self, session_id: str, user_id: str) -> None:
        """At log-in: what the session does anonymously, before and after, counts as the user's.

        Raises:
            ConflictError: the session is linked to another user.
        """
        raise NotImplementedError
