"""What items of all languages and catalogues are compared by: text, categories and year."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.data.catalogue import Catalogue
from trainer.text.language_means import LanguageMeans
from trainer.text.unit_vectors import unit

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ContentSpace:
    """What a catalogue's content vectors are centred by.

    Attributes:
        languages: Mean sentence vectors.
        categories: Float32 [T], the mean of the items' category vectors.
    """

    languages: LanguageMeans
    categories: _Floats


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Catalogue content comparable across catalogues: for N items, unit vectors and the year.

    Vectors are centred first: what all titles of a language share only indicates the language, and what all labels
    share carries no information.

    Attributes:
        space: What the vectors were centred by.
        text, categories: float32 [N, T].
        year: float32 [N], NaN if unknown.
    """

    space: ContentSpace
    text: _Floats
    categories: _Floats
    year: _Floats

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        text_vectors: _Floats,
        category_vectors: _Floats,
        year_column: str,
        space: ContentSpace | None = None,
    ) -> "Content":
        """Content of a catalogue.

        Args:
            catalogue: The items.
            text_vectors: Float32 [N, T], sentence vectors.
            category_vectors: Float32 [K, T], vectors of ``catalogue.category_labels``.
            year_column: Numeric column with each item's year; if the catalogue lacks it, all years are unknown.
            space: Centres the vectors; None: the catalogue's own means.
        """
        texts = unit(text_vectors)
        labels = np.concatenate([np.zeros((1, text_vectors.shape[1]), np.float32), category_vectors])
        mean = unit(labels[catalogue.categories + 1].sum(axis=1))
        there: npt.NDArray[np.bool_] = np.any(catalogue.categories >= 0, axis=1)
        if space is None:
            centre = mean[there].mean(axis=0) if there.any() else np.zeros(mean.shape[1], np.float32)
            space = ContentSpace(LanguageMeans.of(texts, catalogue.languages), centre)
        return cls(
            space=space,
            text=unit(space.languages.centred(texts, catalogue.languages)),
            categories=np.where(there[:, np.newaxis], unit(mean - space.categories), np.float32(0.0)),
            year=catalogue.numeric.get(year_column, np.full(len(catalogue), np.nan, np.float32)),
        )

    def __len__(self) -> int:
        return len(self.text)

    def only(self, rows: npt.NDArray[np.integer] | slice) -> "Content":
        """The items at some rows; their vectors keep their centring."""
        return Content(self.space, self.text[rows], self.categories[rows], self.year[rows])
