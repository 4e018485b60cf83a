"""Changes between two periods, against the formulas written out."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from scipy.stats import chi2, ks_2samp

from serving.service.outcomes import Computation, Drift, Outcomes, OutcomeSettings
from serving.service.store import Store, open_store
from serving.service.types import Item, ShownItem, ShownRecommendation
from tests.serving.service.outcomes.samples import DAY, START


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        opened.put_items([Item(item_id=name, language=name[:2]) for name in ("ko1", "ko2", "th1", "ar1")])
        yield opened


def put(store: Store, day: int, languages: Sequence[str], items: Sequence[str], scores: Sequence[float]) -> None:
    """An answer with one item for each of different people."""
    store.log_recommendations(
        [
            ShownRecommendation(
                recommendation_id=f"{day}-{number}",
                timestamp=START + day * DAY + number,
                user_id=f"👤{number}",
                language=language,
                model_version=3,
                items=[ShownItem(item_id=item, score=score)],
            )
            for number, (language, item, score) in enumerate(zip(languages, items, scores, strict=True))
        ]
    )


def drift(store: Store) -> Drift:
    settings = OutcomeSettings()
    return Outcomes(Computation(store, settings), settings).drift(START + DAY, START + 2 * DAY, START, START + DAY)


def index(before: Sequence[str], after: Sequence[str]) -> float:
    values = sorted({*before, *after})
    first, second = Counter(before), Counter(after)
    found = 0.0
    for value in values:
        p = (first[value] + 0.5) / (len(before) + 0.5 * len(values))
        q = (second[value] + 0.5) / (len(after) + 0.5 * len(values))
        found += (p - q) * math.log(p / q)
    return found


def test_what_has_changed(store: Store) -> None:
    random = np.random.default_rng(0)
    before, after = ["ko"] * 300 + ["th"] * 100, ["ko"] * 100 + ["th"] * 100 + ["ar"] * 200
    items = [random.choice(["ko1", "ko2", "th1", "gone"], 400).tolist() for _ in range(2)]
    scores = [random.normal(0, 1, 400), random.normal(1.5, 1, 400)]
    put(store, 0, before, items[0], scores[0].tolist())
    put(store, 1, after, items[1], scores[1].tolist())
    found = {each.name: each for each in drift(store).changes}
    language = found["language"]
    assert language.psi == pytest.approx(index(before, after))
    assert language.chance == pytest.approx(chi2.ppf(0.95, 2) * 2 / 400)
    assert (language.reading, language.people) == ("large", [400, 400])
    assert language.shares == {"ko": [0.75, 0.25], "th": [0.25, 0.25], "ar": [0.0, 0.5]}
    of_items = found["item_language"]
    languages = [["" if item == "gone" else item[:2] for item in each] for each in items]
    assert of_items.psi == pytest.approx(index(*languages))
    assert of_items.reading == "none"
    assert found["country"].psi == 0.0
    shift = found["scores of version 3"]
    assert shift.reading == "large"
    assert shift.ks == pytest.approx(ks_2samp(scores[0].astype(np.float32), scores[1].astype(np.float32)).statistic)
    bins = np.quantile(scores[0].astype(np.float32), np.arange(1, 10) / 10)
    binned = [[str(sum(score > bins)) for score in each.astype(np.float32)] for each in scores]
    assert shift.psi == pytest.approx(index(*binned))


def test_chance_is_not_read_as_a_change(store: Store) -> None:
    """Of few people many languages differ by chance; one person's thousand requests say nothing about people."""
    random = np.random.default_rng(1)
    tags = [f"l{number}" for number in range(30)]
    for day in (0, 1):
        put(store, day, random.choice(tags, 40).tolist(), ["ko1"] * 40, [0.0] * 40)
    found = {each.name: each for each in drift(store).changes}["language"]
    assert found.psi is not None
    assert found.psi > 0.25
    assert found.reading == "none"
    store.log_recommendations(
        [
            ShownRecommendation(recommendation_id=f"x{number}", timestamp=START + DAY + number, user_id="bot")
            for number in range(1000)
        ]
    )
    assert {each.reading for each in drift(store).changes if each.name == "language"} == {"too few people"}


def test_new_versions_and_empty_periods(store: Store) -> None:
    empty = drift(store)
    assert {each.reading for each in empty.changes} == {"too few people"}
    assert empty.new_versions == []
    put(store, 1, ["ko"] * 20, ["ko1"] * 20, [0.5] * 20)
    found = drift(store)
    assert found.new_versions == ["3"]
    assert {each.psi for each in found.changes} == {None}
