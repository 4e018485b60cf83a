"""What has changed from one period to another: what is asked for, what is shown, and the model's scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, rel_entr
from scipy.stats import ks_2samp

from serving.service.outcomes.columns import Answers, Coder, Integers, added
from serving.service.outcomes.sums import FEWEST_PEOPLE

SOME: Final = 0.1
LARGE: Final = 0.25
"""Population stability indexes from which a change is read as one (Siddiqi 2006, "Credit Risk Scorecards")."""
_CHANCE: Final = 0.05
_BINS: Final = 10
_MOST_VALUES: Final = 20
_MOST_SCORES: Final = 100_000
_COLUMNS: Final = ("language", "country", "placement", "history")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How much a distribution has changed.

    Attributes:
        name: Of what: ``language``, ``country``, ``placement`` and ``history`` of the answers, ``item_language`` of the
            items that they showed, ``scores of version 3``.
        reading: ``none``, ``some``, ``large``, or ``too few people``.
        psi: Population stability index; None: there is nothing to compare.
        chance: What the index exceeds in 5 % of the cases if nothing has changed, with so many people.
        ks: Of scores: largest distance of the distribution functions (Kolmogorov-Smirnov); None: not of scores.
        people: In the reference and in the period.
        shares: Value -> shares in the reference and in the period; the largest ones. Of scores it is empty.
    """

    name: str
    reading: str
    psi: float | None
    chance: float | None
    ks: float | None
    people: Sequence[int]
    shares: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Changes from a reference period to a period.

    Attributes:
        since, until, reference_since, reference_until: Unix seconds.
        changes: One for each distribution.
        new_versions: Versions of the model without scores in the reference, so that there is nothing to compare.
    """

    since: float
    until: float
    reference_since: float
    reference_until: float
    changes: Sequence[Change]
    new_versions: Sequence[str]


def changes_of(
    reference: Answers, current: Answers, item_languages: Mapping[str, str]
) -> tuple[list[Change], list[str]]:
    """Compares the answers of two periods.

    Args:
        reference, current: Of both periods.
        item_languages: Item -> its language; others have an empty one.

    Returns:
        The changes, and the versions that only the current period has.
    """
    both = (reference, current)
    found = []
    for name in _COLUMNS:
        texts = [each.labels[name].texts for each in both]
        found.append(_of_values(name, both, texts, [each.labels[name].codes for each in both], of_items=False))
    languages = [[item_languages.get(item, "") for item in each.items] for each in both]
    found.append(_of_values("item_language", both, languages, [each.item for each in both], of_items=True))
    versions = [_by_version(each) for each in both]
    common = sorted(versions[0].keys() & versions[1].keys(), key=int)
    found += [_of_scores(version, both, versions[0][version], versions[1][version]) for version in common]
    return found, sorted(versions[1].keys() - versions[0].keys(), key=int)


def _of_values(
    name: str,
    both: tuple[Answers, Answers],
    texts: Sequence[Sequence[str]],
    codes: Sequence[npt.NDArray[np.int32]],
    *,
    of_items: bool,
) -> Change:
    coder = Coder()
    places = [np.array([coder[text] for text in each], np.int64) for each in texts]
    counts = np.stack(
        [
            np.bincount(place[code], minlength=len(coder)) if len(code) else np.zeros(len(coder))
            for place, code in zip(places, codes, strict=True)
        ]
    )
    # Values that nobody has would count in the smoothing.
    values = [text for text, count in zip(coder, counts.sum(axis=0), strict=True) if count]
    counts = counts[:, counts.sum(axis=0) > 0]
    people = [_people(each, each.shown if of_items else np.ones(len(each), np.int64)) for each in both]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    largest = np.argsort(-shares.max(axis=0, initial=0.0), kind="stable")[:_MOST_VALUES]
    return _read(name, counts, people, {values[each]: shares[:, each].tolist() for each in largest})


def _of_scores(version: str, both: tuple[Answers, Answers], reference: Integers, current: Integers) -> Change:
    scores = [each.score[np.isin(each.row, rows)] for each, rows in zip(both, (reference, current), strict=True)]
    inner = np.unique(np.quantile(scores[0], np.linspace(0, 1, _BINS + 1)[1:-1])) if len(scores[0]) else np.zeros(0)
    counts = np.stack([np.bincount(np.searchsorted(inner, each), minlength=len(inner) + 1) for each in scores])
    counts = counts[:, counts.sum(axis=0) > 0]
    people = []
    for each, rows in zip(both, (reference, current), strict=True):
        shown = np.zeros(len(each), np.int64)
        shown[rows] = each.shown[rows]
        people.append(_people(each, shown))
    some = [each[:: max(len(each) // _MOST_SCORES, 1)] for each in scores]
    # The distance alone: its probability would take each score for somebody else's.
    ks = float(ks_2samp(*some, method="asymp").statistic) if all(len(each) for each in some) else None
    return _read(f"scores of version {version}", counts, people, {}, ks)


def _read(
    name: str,
    counts: npt.NDArray[Any],
    people: Sequence[tuple[int, float]],
    shares: Mapping[str, Sequence[float]],
    ks: float | None = None,
) -> Change:
    """The index, and what it means.

    ``sum (p - q) ln (p / q)``, the symmetric Kullback-Leibler divergence; half of an observation is added to each value
    so that none is impossible. Without a change it is about ``(1 / n + 1 / m)`` times a chi-squared number with one
    degree of freedom less than there are values (Yurdakul and Naranjo 2020); n and m are effective numbers of people,
    since a person's requests are alike.
    """
    numbers = [each for each, _ in people]
    if min(effective for _, effective in people) < FEWEST_PEOPLE or not counts.size:
        return Change(name=name, reading="too few people", psi=None, chance=None, ks=ks, people=numbers, shares=shares)
    smooth = counts + 0.5
    p, q = smooth / smooth.sum(axis=1, keepdims=True)
    psi = float(rel_entr(p, q).sum() + rel_entr(q, p).sum())
    free = counts.shape[1] - 1
    chance = float(chdtri(free, _CHANCE)) * sum(1 / effective for _, effective in people) if free else 0.0
    reading = "none" if psi < max(SOME, chance) else "some" if psi < LARGE else "large"
    return Change(name=name, reading=reading, psi=psi, chance=chance, ks=ks, people=numbers, shares=shares)


def _people(answers: Answers, weights: Integers) -> tuple[int, float]:
    """Number of people, and the effective one: ``(sum w)^2 / sum w^2`` over people (Kish 1965)."""
    totals = added(answers.person, 1.0 * weights, 1)
    squares = float((totals**2).sum())
    return int((totals > 0).sum()), float(totals.sum() ** 2 / squares) if squares else 0.0


def _by_version(answers: Answers) -> dict[str, Integers]:
    """Version -> its answers with items; popular items have no scores of a model."""
    labels = answers.labels["version"]
    found = {}
    for code, version in enumerate(labels.texts):
        rows = np.flatnonzero((labels.codes == code) & ~answers.degraded & (answers.shown > 0))
        if len(rows):
            found[version] = rows
    return found
