"""Profiles, and a person's right to see and to erase what is kept."""

from serving.service.store.part import Part
from serving.service.types import User


class Users(Part):
    """Profiles of users."""

    def put_user(self, user: User) -> None:
        """Inserts a profile or replaces it whole."""
        raise NotImplementedError

    def user(self, user_id: str) -> User | None:
        """A profile; None if there is none."""
        raise NotImplementedError

    def delete_user(self, user_id: str) -> bool:
        """Erases a person: profile, events, session links and recommendations, also from files of moved events.

        Anonymous events of sessions in which the person was seen are erased too. What remains is a SHA-256 of the id,
        by which the other replicas forget the person (`users_deleted_after`). Counts of popular items stay.

        Returns:
            Whether anything was kept about the person.

        Raises:
            SegmentError: a file of moved events is out of reach; nothing is deleted from the database.
        """
        raise NotImplementedError

    def users_deleted_after(self, mark: str, limit: int = 1000) -> tuple[list[str], str]:
        """SHA-256 (hexadecimal, of the id in UTF-8) of deleted users, and the mark to go on from."""
        raise NotImplementedError

    def export_user(self, user_id: str) -> dict[str, object]:
        """All that is kept about a person, ready for JSON: also what is in files of moved events."""
        raise NotImplementedError
