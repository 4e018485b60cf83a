"""The indexes of the version before, as far as a re-index can use them."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainer.export.index import IndexSettings
from trainer.export.scann_training import ScannTraining

_LOG = logging.getLogger(__name__)
# Entries of the model card, and the place of each index in the SavedModel.
_PLACES: Final = {"index": "_index", "text_index": "_text_retrieval/_index"}
# Partitions suit a catalogue that has grown or shrunk by this share, which changes their best number by half of it.
_MOST_GROWTH: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class PreviousIndex:
    """A ScaNN index of the same model's vectors.

    Attributes:
        settings: As tuned.
        training: Its partitions and codebooks.
        distortion: `ScannTraining.distortion` of the catalogue that they were learned from.
    """

    settings: IndexSettings
    training: ScannTraining
    distortion: float

    def suits(self, settings: IndexSettings) -> bool:
        """Whether an index of these settings, not tuned yet, can have its partitions."""
        leaves, wanted = self.settings.leaves or 0, settings.leaves or 0
        return (
            settings.kind == self.settings.kind
            and settings.dimensions_per_block == self.settings.dimensions_per_block
            and (settings.reorder or 0) <= (self.settings.reorder or 0)
            and abs(leaves - wanted) <= _MOST_GROWTH / 2 * leaves
        )


def previous_indexes(version: Path | None, weights: str) -> dict[str, PreviousIndex]:
    """The indexes of a version, by their entry in the model card; none if it is of other weights.

    Args:
        version: A version directory; None: there is none.
        weights: `trainer.runs.Run.weights_digest` of the run.
    """
    if version is None:
        return {}
    try:
        card = json.loads((version / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))
        if card["weights"] != weights:
            return {}
        found = {name: _read(version, place, card[name]) for name, place in _PLACES.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOG.info("Nothing of %s can be used again: %s", version, error)
        return {}
    return {name: index for name, index in found.items() if index is not None}


def _read(version: Path, place: str, record: Mapping[str, Any] | None) -> PreviousIndex | None:
    if record is None or record["kind"] != "scann" or "distortion" not in record:
        return None
    training = ScannTraining.of_version(version, place)
    settings = IndexSettings(**{name: record[name] for name in IndexSettings.__dataclass_fields__})
    return None if training is None else PreviousIndex(settings, training, float(record["distortion"]))
