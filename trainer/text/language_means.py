"""Mean sentence vectors by language: what all texts of a language share says only which language it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
# Weight of the catalogue's mean in a language's mean vector, in items.
_PRIOR_ITEMS: Final = 20
_BLOCK: Final = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class LanguageMeans:
    """Means of a catalogue's vectors; small languages share the whole catalogue's.

    Attributes:
        languages: The L languages of the catalogue, sorted.
        means: Float32 [L + 1, T], their means; the last line is for every other language.
    """

    languages: Sequence[str]
    means: _Floats

    @classmethod
    def of(cls, vectors: _Floats, languages: Sequence[str]) -> "LanguageMeans":
        """Means of N vectors [N, T] by the items' languages."""
        overall = vectors.mean(axis=0)
        names, codes = np.unique(np.asarray(languages, dtype=object), return_inverse=True)
        counts = np.bincount(codes, minlength=len(names)).astype(np.float32)
        sums = np.zeros((len(names), vectors.shape[1]), np.float32)
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            sums += (codes[block] == np.arange(len(names))[:, np.newaxis]).astype(np.float32) @ vectors[block]
        means = (sums + _PRIOR_ITEMS * overall) / (counts + _PRIOR_ITEMS)[:, np.newaxis]
        return cls([str(name) for name in names], np.concatenate([means, overall[np.newaxis]]).astype(np.float32))

    def centred(self, vectors: _Floats, languages: Sequence[str]) -> _Floats:
        """Vectors [N, T] less the mean of each one's language."""
        place = {language: index for index, language in enumerate(self.languages)}
        codes = np.array([place.get(language, len(place)) for language in languages], np.int64)
        centred: _Floats = (vectors - self.means[codes]).astype(np.float32)
        return centred
