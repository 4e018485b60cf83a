"""The store of the recommendation service: what changes between two exports of a model.

store = open_store("sqlite:////var/lib/babelrec/store.db")
store.append_events([Event(event_id="1", event="click", timestamp=1796000000, user_id="大輔", item_id="1003")])
"""

from serving.service.store.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    SchemaError,
    SegmentError,
    StoreError,
    UnavailableError,
)
from serving.service.store.store import Store, open_store
from serving.service.store.types import (
    COUNTED_EVENTS,
    AuditEntry,
    CheckReport,
    CopiedEvents,
    FoundPerson,
    Key,
    SegmentedAnswers,
    SegmentedDay,
    SegmentReport,
    StoreSettings,
)

__all__ = [
    "COUNTED_EVENTS",
    "AuditEntry",
    "CheckReport",
    "ConflictError",
    "CopiedEvents",
    "FoundPerson",
    "InvalidError",
    "Key",
    "NotFoundError",
    "SchemaError",
    "SegmentError",
    "SegmentReport",
    "SegmentedAnswers",
    "SegmentedDay",
    "Store",
    "StoreError",
    "StoreSettings",
    "UnavailableError",
    "open_store",
]
