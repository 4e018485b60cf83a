"""What the parts of `Store` have in common."""

from serving.service.store.database import Database
from serving.service.store.types import StoreSettings


class Part:
    """Methods of `Store` on one subject."""

    def __init__(self, database: Database, settings: StoreSettings) -> None:
        self._database = database
        self._settings = settings
