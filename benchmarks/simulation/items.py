"""The items of a world: titles, latent features, quality, clickbait, prices, and when they are there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.simulation.draws import Booleans, Floats, Integers, Stream, normalised, quotas, stream, unit_vectors
from benchmarks.simulation.settings import Items as ItemSettings
from benchmarks.simulation.settings import WorldSettings
from benchmarks.simulation.titles import Named, films, shop_items
from trainer.errors import BabelrecError

NEVER = np.iinfo(np.int64).max
"""Day on which an item leaves that stays."""


@dataclass(frozen=True, eq=False)
class Items:
    """M items, those that arrive later included, in a latent space of D dimensions, with L languages.

    Attributes:
        ids: M item ids.
        language: [M], the item's own, a place in the settings' languages.
        titles: Language -> title, of each.
        written: [M, L], whether there is a title in a language.
        categories: Labels of each.
        kinds, details: [M], what a product's title mentions; -1 for films.
        vectors: [M, D], unit vectors.
        quality: [M], standard normal.
        clickbait: [M], 0 to 1.
        price: [M]; NaN for films.
        dearness: [M], logarithm of price / median in standard deviations; 0 for films.
        arrives, leaves: [M], days: an item is there if arrives <= day < leaves.
    """

    ids: tuple[str, ...]
    language: Integers
    titles: tuple[Mapping[str, str], ...]
    written: Booleans
    categories: tuple[tuple[str, ...], ...]
    kinds: Integers
    details: Integers
    vectors: Floats
    quality: Floats
    clickbait: Floats
    price: Floats
    dearness: Floats
    arrives: Integers
    leaves: Integers

    def __len__(self) -> int:
        return len(self.ids)

    def present(self, day: int) -> Integers:
        """The items that are there on a day."""
        return np.flatnonzero((self.arrives <= day) & (day < self.leaves))


def make_items(settings: WorldSettings, seed: int) -> Items:
    """Draws the items.

    Raises:
        BabelrecError: The source has too few films, or no words of a language.
    """
    own, tags = settings.items, tuple(settings.languages)
    random = stream(seed, Stream.ITEMS)
    arrives, leaves = lifetimes(own, settings.days, stream(seed, Stream.LIFETIMES))
    named = _named(settings, len(arrives), random)
    vectors, kinds = _vectors(own, named, settings.dimensions, seed, random)
    bait = random.uniform(0.5, 1.0, len(named)) * (random.random(len(named)) < own.clickbait)
    quality = random.standard_normal(len(named))
    # Half of a price's variance is its kind's, so that some kinds are dear.
    number_of_kinds = max(int(kinds.max()) + 1, 1)
    dearness = np.sqrt(0.5) * (random.standard_normal(number_of_kinds)[kinds] + random.standard_normal(len(named)))
    price = np.round(own.price * np.exp(own.price_spread * dearness), 2)
    is_shop = own.source == "shop"
    return Items(
        ids=tuple(each.item_id for each in named),
        language=np.array([tags.index(each.language) for each in named]),
        titles=tuple(each.titles for each in named),
        written=np.array([[tag in each.titles for tag in tags] for each in named]),
        categories=tuple(each.categories for each in named),
        kinds=kinds,
        details=np.array([each.detail for each in named]),
        vectors=vectors,
        quality=quality,
        clickbait=bait,
        price=price if is_shop else np.full(len(named), np.nan),
        dearness=dearness if is_shop else np.zeros(len(named)),
        arrives=arrives,
        leaves=leaves,
    )


def lifetimes(settings: ItemSettings, days: int, random: np.random.Generator) -> tuple[Integers, Integers]:
    """Days of arrival and of leaving, [M] each.

    Arrivals are spread evenly. As many leave on the same day, drawn from those that have been there for at least
    ``fresh_days``: so the size stays, and from day ``fresh_days`` on the share of younger ones is ``fresh_share``.
    """
    rate = settings.count * settings.fresh_share / settings.fresh_days
    coming = int(np.ceil(rate * (days - 1) - 1e-9))
    later = 1 + np.floor(np.arange(coming) / rate).astype(np.int64) if coming else np.zeros(0, np.int64)
    arrives = np.concatenate([np.full(settings.count, -settings.fresh_days), later])
    leaves = np.full(len(arrives), NEVER)
    for day, number in zip(*np.unique(later, return_counts=True), strict=True):
        old = np.flatnonzero((arrives <= day - settings.fresh_days) & (leaves == NEVER))
        leaves[random.choice(old, min(int(number), len(old)), replace=False)] = day
    return arrives, leaves


def _named(settings: WorldSettings, number: int, random: np.random.Generator) -> list[Named]:
    tags = tuple(settings.languages)
    if settings.items.source == "shop":
        counts = quotas(number, [each.share for each in settings.languages.values()])
        languages = random.permutation(np.repeat(list(tags), counts)).tolist()
        return shop_items(languages, settings.items.translated, random)
    found = films(settings.items.source, tags)
    if len(found) < number:
        raise BabelrecError(
            f"{settings.items.source} has {len(found)} films with titles in {', '.join(tags)}, and a world of "
            f"{settings.days} days needs {number}. Remedy: lower `items.count`, `items.fresh_share` or `days`, or "
            "give `languages` in which there are titles."
        )
    return [found[place] for place in random.permutation(len(found))[:number]]


def _vectors(
    settings: ItemSettings, named: list[Named], dimensions: int, seed: int, random: np.random.Generator
) -> tuple[Floats, Integers]:
    """Latent features [M, D] as far as the text tells them, plus what it does not; and the kinds [M]."""
    space = stream(seed, Stream.SPACE, 1)
    labels = sorted({label for each in named for label in each.categories})
    kinds = sorted({each.kind for each in named} - {""})
    category = unit_vectors(space, max(len(labels), 1), dimensions)
    kind = unit_vectors(space, max(len(kinds), 1), dimensions)
    detail = unit_vectors(space, 1 + max((each.detail for each in named), default=0), dimensions)
    belongs = np.array([[label in each.categories for label in labels] for each in named], np.float64)
    places = np.array([kinds.index(each.kind) if each.kind else -1 for each in named])
    mean = belongs @ category[: len(labels)]
    # A film may have no genre.
    lengths = np.linalg.norm(mean, axis=1, keepdims=True)
    mean = np.divide(mean, lengths, out=np.zeros_like(mean), where=lengths > 0)
    vectors = np.sqrt(settings.category) * mean
    if kinds:
        vectors += np.sqrt(settings.kind) * kind[places]
        vectors += np.sqrt(settings.detail) * detail[[each.detail for each in named]]
        rest = settings.own
    else:
        rest = 1.0 - settings.category
    vectors += np.sqrt(rest) * unit_vectors(random, len(named), dimensions)
    return normalised(vectors), places
