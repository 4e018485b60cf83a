"""The fresh tier: items that are not in the model's index as they are now, searched exactly."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serving import contract
from serving.client.types import Arrays
from serving.service.recommender.facts import Facts, Wanted
from serving.service.recommender.spelling import Spelling
from serving.service.recommender.vectors import ItemVectors
from serving.service.types import Item

_Floats = npt.NDArray[np.float32]
_LEAST_ROWS: Final = 256
# As many of the best are looked at first; filters rarely take more away.
_LOOKED_AT: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Fresh items that a new index would have handed to ranking, best first.

    Attributes:
        item_ids: Their ids.
        embeddings: Float32 [n, D].
        fits: Float32 [n], how well they fit the request's text; None without text.
    """

    item_ids: list[str]
    embeddings: _Floats
    fits: _Floats | None


_NOTHING: Final = Found([], np.zeros((0, 0), np.float32), None)


class FreshTier:
    """Vectors of fresh items under one version of the model.

    Rows are only added; a removed or replaced item's row is dead until there are as many dead rows as others.

    Args:
        key: Names the version.
    """

    def __init__(self, key: str = "") -> None:
        self.key = key
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._alive = np.zeros(_LEAST_ROWS, bool)
        self._embeddings: _Floats | None = None
        self._text: _Floats | None = None
        self._labels = np.zeros((_LEAST_ROWS, 0), np.int32)
        self._norms = np.zeros(_LEAST_ROWS, np.float32)
        self._spelling = Spelling()
        self._facts = Facts()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows

    def newest(self) -> Iterator[str]:
        """Ids, those that were put last first."""
        return reversed(self._rows)

    def embedding(self, item_id: str) -> _Floats | None:
        """An item's vector, float32 [D]; None where it is not here."""
        row = self._rows.get(item_id)
        return None if row is None or self._embeddings is None else self._embeddings[row]

    def put(self, item: Item, vectors: ItemVectors) -> None:
        """Takes an item in place of its earlier vectors, if any; all items' have one form (`has_form_of`)."""
        self.remove(item.item_id)
        row = len(self._ids)
        self._make_room(vectors)
        assert self._embeddings is not None
        self._embeddings[row] = vectors.embedding
        text = vectors.text
        if text is not None:
            assert self._text is not None
            self._text[row] = text.embedding
            self._labels[row] = -1
            self._labels[row, : len(text.labels)] = text.labels
            self._norms[row] = text.label_norm
            self._spelling.add(row, text.buckets, text.scores)
        self._facts.put(row, item)
        self._alive[row] = True
        self._ids.append(item.item_id)
        self._rows[item.item_id] = row

    def describe(self, item: Item) -> None:
        """Takes what filters ask of an item that has changed, if it is here; its vectors stay."""
        row = self._rows.get(item.item_id)
        if row is not None:
            self._facts.put(row, item)

    def remove(self, item_id: str) -> None:
        """Drops an item, if it is here."""
        row = self._rows.pop(item_id, None)
        if row is not None:
            self._alive[row] = False
            self._facts.remove(row)
            if len(self._ids) - len(self._rows) > max(len(self._rows), _LEAST_ROWS):
                self._compact()

    def search(self, answer: Arrays, typed: bool, count: int, wanted: Wanted, allowed: Callable[[str], bool]) -> Found:
        """Items that come before the last candidate of the model's own.

        Args:
            answer: Of `recommend_for_merge`, without the batch.
            typed: Whether the request has text.
            count: Candidates that ranking takes.
            wanted: The request's filters.
            allowed: Whether an item may be in the answer. It is asked item by item, of those that pass the filters:
                so it should forbid few of these, such as excluded ones.
        """
        if not self._can_answer(answer):
            return _NOTHING
        scores, by_text = self._scores(answer, typed)
        kept = self._alive[: len(self._ids)] & self._facts.mask(wanted, len(self._ids))
        rows = np.flatnonzero(kept & (scores > answer[contract.CUTOFFS]))
        chosen: list[int] = []
        for row in _best_first(scores, rows, count):
            if allowed(self._ids[row]):
                chosen.append(row)
                if len(chosen) == count:
                    break
        return self._found(chosen, scores, by_text)

    def of(self, item_ids: Sequence[str], answer: Arrays, typed: bool) -> Found:
        """Given items, as far as they are here, in their order; ``answer`` and ``typed`` as for `search`."""
        if not self._can_answer(answer):
            return _NOTHING
        rows = [self._rows[item_id] for item_id in item_ids if item_id in self._rows]
        return self._found(rows, *self._scores(answer, typed))

    def _can_answer(self, answer: Arrays) -> bool:
        # The width differs if another model with the same version number is served now.
        query = answer.get(contract.QUERY_EMBEDDINGS)
        return (
            bool(self._rows)
            and query is not None
            and self._embeddings is not None
            and (query.shape == self._embeddings.shape[1:])
        )

    def _scores(self, answer: Arrays, typed: bool) -> tuple[_Floats, bool]:
        """The scores of all rows before ranking, and whether they say how well rows fit the request's text."""
        assert self._embeddings is not None
        size = len(self._ids)
        if not answer[contract.INFORMED]:
            # Popularity is compared then, and nobody has seen these yet.
            return np.zeros(size, np.float32), False
        if typed and contract.NAMED in answer and self._text is not None:
            return self._fits(answer), True
        scores: _Floats = self._embeddings[:size] @ answer[contract.QUERY_EMBEDDINGS]
        return scores, False

    def _found(self, rows: list[int], scores: _Floats, by_text: bool) -> Found:
        assert self._embeddings is not None
        return Found([self._ids[row] for row in rows], self._embeddings[rows], scores[rows] if by_text else None)

    def _fits(self, answer: Arrays) -> _Floats:
        """How well all rows fit a text: `trainer.models.text_search.TextSearch.scores`."""
        size = len(self._ids)
        assert self._text is not None
        query = answer[contract.TEXT_EMBEDDINGS]
        named: _Floats = self._text[:size, :-1] @ query[:-1]
        weight = float(answer[contract.LEXICAL_WEIGHTS])
        if weight:
            shares = self._spelling.shares(answer[contract.GRAM_BUCKETS], answer[contract.GRAM_WEIGHTS], size)
            named += weight * np.square(shares)
        best = max(float(answer[contract.NAMED]), float(named[self._alive[:size]].max()))
        describes = (contract.NAMES_AN_ITEM - best) / (contract.NAMES_AN_ITEM - contract.NAMES_NONE)
        fits: _Floats = named + self._text[:size, -1] * query[-1]
        if describes > 0.0 and self._labels.shape[1]:
            # -1 pads, and the last entry belongs to "no label": both are similar to nothing.
            similarities = answer[contract.LABEL_SIMILARITIES]
            similar = similarities[self._labels[:size]].sum(axis=1)
            fits += min(describes, 1.0) * self._norms[:size] * similar
        return fits

    def _make_room(self, vectors: ItemVectors) -> None:
        """For one more row, and for as many labels as the item has."""
        size = len(self._ids)
        if self._embeddings is None:
            self._embeddings = np.zeros((len(self._alive), len(vectors.embedding)), np.float32)
        text = vectors.text
        if text is not None and self._text is None:
            self._text = np.zeros((len(self._alive), len(text.embedding)), np.float32)
        if text is not None and len(text.labels) > self._labels.shape[1]:
            missing = len(text.labels) - self._labels.shape[1]
            self._labels = np.pad(self._labels, [(0, 0), (0, missing)], constant_values=-1)
        if size == len(self._alive):
            self._alive = _doubled(self._alive)
            self._embeddings = _doubled(self._embeddings)
            self._text = None if self._text is None else _doubled(self._text)
            self._labels, self._norms = _doubled(self._labels), _doubled(self._norms)

    def _compact(self) -> None:
        """Gives the living rows the first places."""
        kept = np.flatnonzero(self._alive[: len(self._ids)])
        size = max(_LEAST_ROWS, 2 * len(kept))

        def moved(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            room = np.zeros_like(values, shape=(size, *values.shape[1:]))
            room[: len(kept)] = values[kept]
            return room

        self._ids = [self._ids[row] for row in kept]
        self._rows = {item_id: row for row, item_id in enumerate(self._ids)}
        self._embeddings = None if self._embeddings is None else moved(self._embeddings)
        self._text = None if self._text is None else moved(self._text)
        self._labels, self._norms = moved(self._labels), moved(self._norms)
        self._alive = np.arange(size) < len(kept)
        self._spelling.keep(kept)
        self._facts.keep(kept)


def _best_first(scores: _Floats, rows: npt.NDArray[np.intp], count: int) -> Iterator[int]:
    """Rows by falling score; the best few are sorted before the others."""
    few = _LOOKED_AT * count
    if len(rows) > few:
        split = np.argpartition(-scores[rows], few)
        rows, rest = rows[split[:few]], rows[split[few:]]
    else:
        rest = rows[:0]
    for part in (rows, rest):
        yield from part[np.argsort(-scores[part], kind="stable")].tolist()


def _doubled(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    room = np.zeros_like(values, shape=(2 * len(values), *values.shape[1:]))
    room[: len(values)] = values
    return room
