import numpy as np
import pytest

from benchmarks.simulation.draws import Stream, stream
from benchmarks.simulation.items import NEVER, Items, lifetimes, make_items
from benchmarks.simulation.settings import Items as ItemSettings
from benchmarks.simulation.settings import Language, WorldSettings
from benchmarks.simulation.titles import shop_items
from trainer.errors import BabelrecError
from trainer.files import data_mirror

_DEFAULT = WorldSettings()


@pytest.fixture(scope="module")
def items() -> Items:
    return make_items(_DEFAULT, 1)


def test_thirty_percent_are_new_within_a_fortnight(items: Items) -> None:
    for day in range(28):
        present = items.present(day)
        assert len(present) == 600
        young = (items.arrives[present] > day - 14).mean()
        # 180 arrivals in a fortnight, a day's 12 or 13 at a time.
        assert young == pytest.approx(0.3 * min(day, 14) / 14, abs=1.01 / 600)


def test_an_item_is_there_for_a_fortnight_at_least(items: Items) -> None:
    gone = items.leaves < NEVER
    assert gone.sum() == len(items) - 600
    assert (items.leaves - items.arrives)[gone].min() >= 14


def test_nothing_arrives_in_a_catalogue_that_stays() -> None:
    arrives, leaves = lifetimes(ItemSettings(count=7, fresh_share=0.0), 30, stream(1, Stream.LIFETIMES))
    assert (len(arrives), set(leaves.tolist())) == (7, {NEVER})


def test_titles_say_the_same_in_each_language(items: Items) -> None:
    tags = tuple(_DEFAULT.languages)
    for item in range(50):
        own = tags[items.language[item]]
        assert own in items.titles[item]
        assert [tag in items.titles[item] for tag in tags] == items.written[item].tolist()
    shares = np.bincount(items.language) / len(items)
    np.testing.assert_allclose(shares, [each.share for each in _DEFAULT.languages.values()], atol=1.5 / len(items))
    foreign = ~np.eye(len(tags), dtype=bool)[items.language]
    assert items.written[foreign].mean() == pytest.approx(0.2, abs=0.03)
    named = shop_items(["ko"] * 3 + ["en"] * 3, 1.0, np.random.default_rng(0))
    assert all(set(each.titles) == {"ko", "en"} for each in named)
    assert named[0].titles["en"].split()[0] == named[0].titles["ko"].split()[0]


def test_a_text_tells_its_share_of_the_features() -> None:
    """Regression on what the titles say explains category + kind + detail, up to normalising and fitting."""
    settings = WorldSettings(days=1, items=ItemSettings(count=6_000))
    items = make_items(settings, 2)
    said = np.concatenate([np.eye(30)[items.kinds], np.eye(10)[items.details]], axis=1)
    coefficients, *_ = np.linalg.lstsq(said, items.vectors, rcond=None)
    rest = ((items.vectors - said @ coefficients) ** 2).sum()
    total = ((items.vectors - items.vectors.mean(axis=0)) ** 2).sum()
    assert 1 - rest / total == pytest.approx(0.85, abs=0.06)
    np.testing.assert_allclose(np.linalg.norm(items.vectors, axis=1), 1.0)


def test_quality_clickbait_and_prices(items: Items) -> None:
    assert items.quality.mean() == pytest.approx(0.0, abs=0.12)
    assert items.quality.std() == pytest.approx(1.0, abs=0.1)
    bait = items.clickbait > 0
    assert bait.mean() == pytest.approx(0.15, abs=0.04)
    assert items.clickbait[bait].min() >= 0.5
    assert items.clickbait.max() <= 1.0
    np.testing.assert_allclose(items.price, 30 * np.exp(0.8 * items.dearness), atol=0.006)


def test_a_language_without_words() -> None:
    languages = {"en": Language(share=0.5, countries={"US": 1.0}), "fi": Language(share=0.5, countries={"FI": 1.0})}
    with pytest.raises(BabelrecError, match=r"no words of fi.*Remedy"):
        make_items(WorldSettings(languages=languages), 1)


def test_real_films_with_both_titles() -> None:
    mirror = data_mirror()
    if mirror is None or not (mirror / "kmrd-small").is_dir():
        pytest.skip("needs kmrd-small in $BABELREC_DATA_MIRROR")
    languages = {"ko": Language(share=0.9, countries={"KR": 1.0}), "en": Language(share=0.1, countries={"US": 1.0})}
    settings = WorldSettings(days=14, languages=languages, items=ItemSettings(source="kmrd", count=300))
    items = make_items(settings, 1)
    assert len(set(items.ids)) == len(items) == 300 + 84
    assert items.written.all(axis=1).mean() > 0.9
    assert np.isnan(items.price).all()
    assert np.isfinite(items.vectors).all()
    genres = [set(each) for each in items.categories]
    alike = [(a, b) for a in range(40) for b in range(a) if genres[a] and genres[a] == genres[b]]
    cosines = items.vectors @ items.vectors.T
    assert np.mean([cosines[pair] for pair in alike]) > 0.3
    with pytest.raises(BabelrecError, match=r"films.*Remedy"):
        make_items(settings.model_copy(update={"items": ItemSettings(source="kmrd", count=5_000)}), 1)
