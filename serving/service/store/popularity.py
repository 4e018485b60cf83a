"""Popular items, for answers without the model."""

from serving.service.store.part import Part


class Popularity(Part):
    """Counts of events per language, day and item."""

    def popular_items(self, language: str, limit: int = 100, now: float | None = None) -> list[str]:
        """Ids of the items with the most events in a language, then of those with the most in all languages.

        Only items that may be in an answer now. The events of the last `StoreSettings.popularity_days` count.
        """
        raise NotImplementedError
