"""Splits that were made together with a dataset, which a machine reads instead of making them.

They lie in the dataset's directory, each in ``splits/KEY`` with `RECORD`; KEY is that of the settings. Whoever reads
one checks that it was made of the same tables and is whole.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import polars as pl

from trainer.data.dataset import Dataset
from trainer.data.faults import DatasetError, reading
from trainer.data.fingerprint import fingerprint
from trainer.data.seal import Seal, Sealing
from trainer.data.settings import DataConfig
from trainer.data.shards import scan_shards, shards

FOLDER: Final = "splits"
RECORD: Final = "split.json"
PARTS: Final = ("train", "validation", "test", "observed")
COLD: Final = "cold"


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """What `RECORD` says.

    Attributes:
        dataset: Fingerprint of the tables it was made of.
        fingerprint: Of the tables of `PARTS` and `COLD`.
        rows: Rows of each of them.
    """

    dataset: str
    fingerprint: str
    rows: Mapping[str, int]

    def json(self) -> str:
        """The text of the file."""
        return json.dumps(asdict(self), indent=2) + "\n"


def split_key(config: DataConfig) -> str:
    """16 hexadecimal digits: the same for settings that make the same split of the same tables."""
    settings = config.model_dump(mode="json", include={"positives": True, "refusals": True, "split": True})
    # Of the users, a share is taken after the split is made.
    del settings["split"]["train_users"]
    for later in ("min_history", "whole_baskets"):
        # As before the setting existed.
        if not settings["split"][later]:
            del settings["split"][later]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def prepared_parts(dataset: Dataset, config: DataConfig) -> dict[str, pl.DataFrame] | None:
    """The tables of `PARTS` and `COLD` (item_id), if a split of these settings was prepared; else None.

    Raises:
        DatasetError: It was made of other tables, or is damaged.
    """
    folder = dataset.path / FOLDER / split_key(config)
    if not (folder / RECORD).exists():
        return None
    record = _read(folder / RECORD)
    tables = (*PARTS, COLD)
    sealing = Sealing(folder, [folder / table for table in tables])
    seal = sealing.found()
    if seal is None:
        with reading(str(folder)):
            seal = Seal(record.rows, fingerprint({table: shards(folder / table) for table in tables}))
        sealing.keep(seal)
    for now, then, what in (
        (dataset.fingerprint, record.dataset, "was made of other tables"),
        (seal.fingerprint, record.fingerprint, "was modified or damaged after it was written"),
    ):
        if now != then:
            raise DatasetError(
                f"{folder} {what} (fingerprint {then[:12]}..., now {now[:12]}...). Remedy: remove it, and the split is "
                "made anew; or prepare the dataset again."
            )
    with reading(str(folder)):
        return {table: scan_shards(folder / table).collect(engine="streaming") for table in tables}


def _read(file: Path) -> SplitRecord:
    try:
        return SplitRecord(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{file} can't be read ({error}). Remedy: remove its directory.") from error
