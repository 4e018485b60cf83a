"""How items resemble those of the vocabulary: neighbours that lend them vectors, and content to compare."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.neighbours import Neighbours
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.text.preparation import prepare_labels, prepare_texts
from trainer.text.vectors import encode_texts
from trainer.towers.content import Content, ContentSpace
from trainer.towers.neighbours import crowding_of_known, nearest_known

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class RelationStatistics:
    """What items are compared with by their content, taken from the catalogue that a model was trained on.

    Attributes:
        known: Content of the V items of the vocabulary, in its order, and what content is centred by.
        crowding: Float32 [V], how close the known items' nearest are; None: the model doesn't look at neighbours.
    """

    known: Content
    crowding: _Floats | None


class Relations:
    """What a model compares items by, if its settings say so.

    Args:
        config: Of the run.
        vocabulary: Of the run.
        own: The run's catalogue, which has all items of ``vocabulary``, or what was stored of it; None: the settings
            compare no content.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary, own: Catalogue | RelationStatistics | None) -> None:
        self._config = config
        self._own = own
        self._vocabulary = vocabulary

    @property
    def has_neighbours(self) -> bool:
        """Whether unknown items have their neighbours' vectors."""
        return self._config.model.candidate.neighbours.enabled

    @property
    def has_content(self) -> bool:
        """Whether items are compared with histories by their content."""
        return self._config.model.content.enabled

    @property
    def statistics(self) -> RelationStatistics | None:
        """What a later catalogue needs of the run's; None if the settings compare no content."""
        if not (self.has_neighbours or self.has_content):
            return None
        return RelationStatistics(self.known, self.crowding if self.has_neighbours else None)

    @cached_property
    def known(self) -> Content:
        """Content of the V items of the vocabulary, in its order."""
        if isinstance(self._own, RelationStatistics):
            return self._own.known
        content, own = self._own_content
        return content.only(own.rows(pl.Series("item_id", self._vocabulary.items, pl.String)))

    @cached_property
    def crowding(self) -> _Floats:
        """How close the known items' nearest of the run's catalogue are, float32 [V]."""
        if isinstance(self._own, RelationStatistics) and self._own.crowding is not None:
            return self._own.crowding
        content, own = self._own_content
        return crowding_of_known(
            content, self.known, _places(own, self._vocabulary), self._config.model.candidate.neighbours
        )

    @cached_property
    def _own_content(self) -> tuple[Content, Catalogue]:
        """Content of the run's catalogue, and the catalogue."""
        if not isinstance(self._own, Catalogue):
            raise ValueError("The statistics lack what the settings need.")
        return self._content(self._own), self._own

    def of_items(
        self, catalogue: Catalogue, known: Vocabulary, *, later: bool
    ) -> tuple[Neighbours | None, _Floats | None]:
        """The nearest known items, and the content that is compared; None where there is no such thing.

        Args:
            catalogue: N items.
            known: Its items are those that ``catalogue`` has by the same ids.
            later: Whether it is a later state of the run's catalogue, whose content is centred by the means of that
                one; otherwise by its own means, as another market's.

        Returns:
            Of N items, and float32 [N, C]; see `trainer.data.item_table.ItemTable`.
        """
        if not (self.has_neighbours or self.has_content):
            return None, None
        if catalogue is self._own:
            content, later = self._own_content[0], False
        else:
            content = self._content(catalogue, self.known.space if later else None)
        compared = neighbours = None
        if self.has_content:
            # A blank text has a vector as well, and all blank ones the same: as if they were one story.
            written = np.array([[bool(text.strip())] for text in catalogue.texts])
            weight = self._config.model.content.category_weight
            compared = np.concatenate([content.text * written, weight * content.categories], axis=1)
        if self.has_neighbours:
            neighbours = nearest_known(
                content,
                self.known,
                _places(catalogue, known),
                self._config.model.candidate.neighbours,
                self.crowding if later else None,
            )
        return neighbours, compared

    def _content(self, catalogue: Catalogue, space: ContentSpace | None = None) -> Content:
        text, column = self._config.text, self._config.model.candidate.neighbours.year_column
        # The frozen encoder's vectors, whatever part of it is trained along.
        texts, labels = (
            encode_texts(prepared, text, progress=False)
            for prepared in (
                prepare_texts(catalogue.texts, catalogue.languages, text),
                prepare_labels(catalogue.category_labels, text),
            )
        )
        return Content.of(catalogue, texts, labels, column, space)


def _places(catalogue: Catalogue, vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
    """Vocabulary index of each item, 0 unknown."""
    index = index_of(vocabulary.items)
    return np.array([index.get(item, UNKNOWN) for item in catalogue.item_ids], np.int64)
