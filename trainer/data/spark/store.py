"""A recommendation service's store, read by SQL of PostgreSQL: what `serving.service.store` copies for an update."""

from collections.abc import Mapping
from typing import Final

from serving.service.types import EVENTS

_KNOWN: Final = ", ".join(f"'{event}'" for event in EVENTS)

STORE_QUERIES: Final[Mapping[str, str]] = {
    # Sorted by time and number, as the store's own copies: `read_query` sorts by the time and then the first column.
    "interactions": f"""
        SELECT number, CASE WHEN e.user_id <> '' THEN e.user_id
            ELSE COALESCE(s.user_id, 'session:' || e.session_id) END AS user_id,
        item_id, timestamp, event, value, position + 1 AS position,
        NULLIF(language, '') AS language, NULLIF(country, '') AS country
        FROM events e LEFT JOIN sessions s ON s.session_id = e.session_id
        WHERE item_id <> '' AND event IN ({_KNOWN})""",
    "items": """
        SELECT item_id, body::json->>'language' AS language, body::json->>'title' AS title,
        body::json->>'description' AS description, body::json->>'categories' AS categories
        FROM items WHERE body IS NOT NULL""",
    "users": """
        SELECT user_id, body::json->>'languages' AS languages, NULLIF(body::json->>'country', '') AS country
        FROM users""",
}
"""Table -> query. Older events are in the store's Parquet files of moved events: read these first."""
