"""What the store refuses, by kind; each message names the thing and the remedy."""


class StoreError(Exception):
    """Base of all errors of the store."""


class InvalidError(StoreError):
    """A value is malformed or over a limit: the caller must change it."""


class NotFoundError(StoreError):
    """There is no such item, key or recommendation."""


class ConflictError(StoreError):
    """The name is taken, or the session is somebody else's."""


class SchemaError(StoreError):
    """The database's schema is older or newer than this version of Babelrec."""


class UnavailableError(StoreError):
    """The database can't be reached, is locked, or its disk is full: a later attempt may succeed."""


class SegmentError(StoreError):
    """A file of moved events is out of reach, or does not hold what it should."""
