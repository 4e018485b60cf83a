"""Recall by the user's language and the language of the held-out item."""

from collections.abc import Sequence

import numpy as np

from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.metrics.slices import UNDETERMINED, Slice, codes_of, slice_by_items

# With many languages only the most frequent pairs are reported: each has a chart updated after each epoch.
MOST_PAIRS = 30


def history_languages(histories: ItemSets, languages: Sequence[str]) -> list[str]:
    """The language of most items of each user's history; ties go to the first by name, `und` without a history.

    Args:
        histories: [U, I].
        languages: One per item.

    Raises:
        ValueError: there is not one language for each item.
    """
    if len(languages) != histories.num_items:
        raise ValueError(f"expected one language for each of {histories.num_items} items, received {len(languages)}")
    names, codes = codes_of(languages)
    if not names:
        return [UNDETERMINED] * histories.num_users
    cells = histories.users() * len(names) + codes[histories.indices]
    counts = np.bincount(cells, minlength=histories.num_users * len(names)).reshape(-1, len(names))
    known = counts.sum(axis=1) > 0
    return [names[best] if there else UNDETERMINED for best, there in zip(counts.argmax(axis=1), known, strict=True)]


def slice_by_language_pair(
    rankings: Rankings, relevant: ItemSets, histories: ItemSets, languages: Sequence[str], *, ks: Sequence[int]
) -> dict[tuple[str, str], Slice]:
    """Metrics of each (language of the history, language of the held-out item), most frequent pair first.

    As in slices by items, rankings are of the full catalogue, and a user's test items are those of one language.

    Args:
        rankings: [U, K].
        relevant: All test items of each user.
        histories: The history each user is queried with.
        languages: One per item.
        ks: Cut-offs.

    Returns:
        At most `MOST_PAIRS`; empty if there is only one language.
    """
    readers = np.asarray(history_languages(histories, languages), dtype=object)
    found: dict[tuple[str, str], Slice] = {}
    for reader in sorted(set(readers)):
        parts = slice_by_items(rankings, relevant.only_users(readers == reader), languages, ks=ks)
        found |= {(reader, language): part for language, part in parts.items()}
    if len({language for pair in found for language in pair}) < 2:
        return {}
    ordered = sorted(found.items(), key=lambda item: (-item[1].size.positives, item[0]))
    return dict(ordered[:MOST_PAIRS])
