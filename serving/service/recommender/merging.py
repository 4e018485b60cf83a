"""One list of the index's items and the fresh ones, by their final scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from serving import contract
from serving.client.types import Arrays


@dataclass(frozen=True, slots=True)
class Scored:
    """An item with what the model says of it.

    Attributes:
        item_id: Its id.
        score: The sort key.
        heads: Predictions of the ranking heads.
        source: ``model`` or ``fresh``.
        title, language: As the index has them; empty for fresh items.
    """

    item_id: str
    score: float
    heads: Mapping[str, float] = field(default_factory=dict)
    source: str = "model"
    title: str = ""
    language: str = ""


def of_index(answer: Arrays, heads: frozenset[str], allowed: Callable[[str], bool]) -> list[Scored]:
    """The model's own items, best first, without those that are not ``allowed``.

    Args:
        answer: Of `recommend` or `recommend_for_merge`, without the batch.
        heads: Which outputs are predictions.
        allowed: Whether an item may be in the answer.
    """
    columns = {name: answer[name].tolist() for name in sorted(heads) if name in answer}
    titles, languages = answer.get(contract.TITLES), answer.get(contract.LANGUAGES)
    found = []
    for place, (raw, score) in enumerate(zip(answer[contract.ITEM_IDS], answer[contract.SCORES].tolist(), strict=True)):
        item_id = raw.decode(errors="replace")
        if item_id and allowed(item_id):
            found.append(
                Scored(
                    item_id,
                    score,
                    {name: values[place] for name, values in columns.items()},
                    title="" if titles is None else titles[place].decode(errors="replace"),
                    language="" if languages is None else languages[place].decode(errors="replace"),
                )
            )
    return found


def of_fresh(item_ids: Sequence[str], scored: Arrays) -> list[Scored]:
    """Fresh items with the outputs of `score_embeddings`, without the batch."""
    columns = {name: values.tolist() for name, values in sorted(scored.items()) if name != contract.SCORES}
    return [
        Scored(item_id, score, {name: values[place] for name, values in columns.items()}, "fresh")
        for place, (item_id, score) in enumerate(zip(item_ids, scored[contract.SCORES].tolist(), strict=True))
    ]


def merged(index: Sequence[Scored], fresh: Sequence[Scored]) -> list[Scored]:
    """Both, best first; equal scores keep the index's items first."""
    return sorted([*index, *fresh], key=lambda item: -item.score)
