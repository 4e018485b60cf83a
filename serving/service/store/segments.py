"""Moves old events to Parquet files, which the trainer reads."""

from pathlib import Path

from serving.service.store.part import Part
from serving.service.store.types import SegmentReport


class Segments(Part):
    """Files of moved events."""

    def segment_events(self, older_than: float, folder: Path) -> SegmentReport:
        """Moves the events of whole UTC days that end at or before a time to ``folder``.

        ``interactions/2026-11-29.parquet`` has the day's events with an item in the dataset format (docs/data.md),
        ``other_events/`` those without. A file is complete and on disk before its events leave the table, and an event
        that the file holds already is not written again: a run that was killed anywhere is completed by the next one.
        """
        raise NotImplementedError
