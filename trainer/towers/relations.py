"""How items resemble those of the vocabulary: neighbours that lend them vectors, and content to compare."""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.vocabulary import UNKNOWN, Vocabulary, index_of
from trainer.text.preparation import prepare_labels, prepare_texts
from trainer.text.vectors import encode_texts
from trainer.towers.neighbours import Content, ContentSpace, crowding_of_known, neighbour_weights

_Floats = npt.NDArray[np.float32]


class Relations:
    """What a model compares items by, if its settings say so.

    Args:
        config: Of the run.
        own: Has all items of ``vocabulary``.
        vocabulary: Of the run.
    """

    def __init__(self, config: Config, own: Catalogue, vocabulary: Vocabulary) -> None:
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

    @cached_property
    def own_content(self) -> Content:
        """Content of the run's catalogue."""
        return self._content(self._own)

    @cached_property
    def known(self) -> Content:
        """Content of the V items of the vocabulary, in its order."""
        return self.own_content.only(self._own.rows(pl.Series("item_id", self._vocabulary.items, pl.String)))

    @cached_property
    def crowding(self) -> _Floats:
        """How close the known items' nearest of the run's catalogue are, float32 [V]."""
        return crowding_of_known(
            self.own_content, self.known, _places(self._own, self._vocabulary), self._config.model.candidate.neighbours
        )

    def of_items(
        self, catalogue: Catalogue, known: Vocabulary, *, centred_as_own: bool
    ) -> tuple[_Floats | None, _Floats | None]:
        """Weights of the known items' vectors, and the content that is compared; None where there is no such thing.

        Args:
            catalogue: N items.
            known: Its items are those that ``catalogue`` has by the same ids.
            centred_as_own: See `trainer.models.assembly.make_item_table`.

        Returns:
            Float32 [N, V] and float32 [N, C]; see `trainer.data.item_table.ItemTable`.
        """
        if not (self.has_neighbours or self.has_content):
            return None, None
        later = centred_as_own and catalogue is not self._own
        content = (
            self.own_content
            if catalogue is self._own
            else self._content(catalogue, self.own_content.space if later else None)
        )
        compared = weights = None
        if self.has_content:
            # A blank text has a vector as well, and all blank ones the same: as if they were one story.
            written = np.array([[bool(text.strip())] for text in catalogue.texts])
            weight = self._config.model.content.category_weight
            compared = np.concatenate([content.text * written, weight * content.categories], axis=1)
        if self.has_neighbours:
            weights = neighbour_weights(
                content,
                self.known,
                _places(catalogue, known),
                self._config.model.candidate.neighbours,
                self.crowding if later else None,
            )
        return weights, compared

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
        return Content(catalogue, texts, labels, column, space)


def _places(catalogue: Catalogue, vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
    """Vocabulary index of each item, 0 unknown."""
    index = index_of(vocabulary.items)
    return np.array([index.get(item, UNKNOWN) for item in catalogue.item_ids], np.int64)
