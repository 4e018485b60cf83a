"""Defaults of the preparation by Spark."""

from typing import Final

MOST_NOTES: Final = 50
"""Notes about the files of one table that `dataset.yaml` keeps; a table may have thousands of files."""

TEXTS_PER_FILE: Final = 65_536
"""Texts that one task encodes: 128 MiB of mUSE's vectors, and the most that is lost with a worker."""

MOST_BUCKETS: Final = 4_096
"""Ranges of time that one pass counts when a moment is sought by which a share of the events has happened."""
