"""Settings of a simulated world; docs/simulation.md says what they do and why the defaults are what they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainer.errors import BabelrecError

_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Positive = Annotated[float, Field(gt=0.0)]
_NotNegative = Annotated[float, Field(ge=0.0)]
# Loads of fatigue are kept as multiples of exp(days / fatigue.days), which must stay a finite number.
_LARGEST_EXPONENT = 500.0


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


class Language(Section):
    """A language of the world.

    Attributes:
        share: Share of the visits by people whose first language it is, and of the items that are written in it.
        countries: ISO 3166-1 alpha-2 -> share of these people.
    """

    share: float = Field(gt=0.0, le=1.0)
    countries: dict[str, _Share]


class People(Section):
    """Who visits.

    Attributes:
        count: Number of people.
        communities: Number of groups with similar tastes.
        spread: Distance of a taste from its community's, as the length of a normal deviation added to a unit vector.
        second_language: Share of people who read a second language, drawn by the languages' shares.
        visits_a_day: Mean over all people.
        activity_shape: Shape of the Lomax (Pareto II) distribution of visits a day; heavier tail below, finite
            variance above 2.
        drift: Mean angle by which a taste turns in a day, radians.
    """

    count: int = Field(2_000, ge=1)
    communities: int = Field(6, ge=1)
    spread: _NotNegative = 0.6
    second_language: _Share = 0.25
    visits_a_day: _Positive = 0.5
    activity_shape: float = Field(2.5, gt=1.0)
    drift: _NotNegative = 0.02


class Items(Section):
    """What there is to recommend.

    Attributes:
        source: ``shop``: products made of words in six languages; ``movielens-100k``, ``kmrd``: titles of real films.
        count: Items on any day; as many leave as arrive.
        fresh_share, fresh_days: Share of the catalogue that has arrived in the last ``fresh_days`` days, from day
            ``fresh_days`` on.
        translated: Share of the items with a title in a language, for each that is not their own (``shop``).
        category, kind, detail, own: Shares of the variance of an item's latent features: what follows from its
            category, its kind and the adjective in its title, and what no text tells. They sum to 1.
        clickbait: Share of the items that promise more than they hold.
        price: Median price (``shop``).
        price_spread: Standard deviation of the logarithm of prices.
    """

    source: Literal["shop", "movielens-100k", "kmrd"] = "shop"
    count: int = Field(600, ge=1)
    fresh_share: _Share = 0.3
    fresh_days: int = Field(14, ge=1)
    translated: _Share = 0.2
    category: _Share = 0.45
    kind: _Share = 0.3
    detail: _Share = 0.1
    own: _Share = 0.15
    clickbait: _Share = 0.15
    price: _Positive = 30.0
    price_spread: _NotNegative = 0.8

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.category + self.kind + self.detail + self.own - 1.0) > 1e-9:
            raise ValueError("`category`, `kind`, `detail` and `own` are shares of one variance: let them sum to 1")
        return self


class Examination(Section):
    """Which places of a list are looked at.

    Attributes:
        model: ``pbm``: each place independently; ``cascade``: from the first place on, until the person stops.
        decay: PBM: the place r (from 1) is examined with probability (1 / r) ** decay.
        after_skip: Cascade: probability of going on after an item that was not clicked.
        after_click: Cascade: probability of going on after a click; 0, with ``after_skip`` 1: Craswell's model.
    """

    model: Literal["pbm", "cascade"] = "pbm"
    decay: _NotNegative = 1.0
    after_skip: _Share = 1.0
    after_click: _Share = 0.0

    @model_validator(mode="after")
    def _clicks_end(self) -> Self:
        if self.after_click > self.after_skip:
            raise ValueError("`after_click` exceeds `after_skip`: a click would not make going on less probable")
        return self


class Logit(Section):
    """Weights of a probability's logit.

    Attributes:
        base: Constant.
        taste: Of the cosine of taste and item.
        quality: Of the item's quality, which is standard normal over the items.
        clickbait: Of the item's clickbait, 0 to 1.
        price: Of the logarithm of price / median, in standard deviations (``shop``).
    """

    base: float
    taste: float
    quality: float
    clickbait: float
    price: float = 0.0


class Fatigue(Section):
    """How much less attractive is what a person has seen lately.

    Attributes:
        shown: Load of an item that was in a list.
        taken: Further load of an item that was clicked.
        days: Time in which a load falls to 1 / e.
    """

    shown: _NotNegative = 0.1
    taken: _NotNegative = 1.0
    days: _Positive = 3.0


class Behaviour(Section):
    """What people do with a list.

    Attributes:
        examination: Which places are looked at.
        attraction: Probability that an examined item is clicked, before language and fatigue.
        unreadable: Factor of the attraction of an item without a title in a language that the person reads.
        fatigue: Its decrease by repetition.
        purchase: Probability of a purchase after a click.
        satisfaction: Mean of the satisfaction after a click, 0 to 1.
        rates: Probability of a rating after a click.
        dwell_seconds: Median time with an item of satisfaction 0.5.
        dwell_growth: Growth of the time's logarithm from satisfaction 0 to 1.
        dwell_spread: Standard deviation of the time's logarithm.
    """

    examination: Examination = Examination()
    attraction: Logit = Logit(base=-2.5, taste=3.0, quality=0.3, clickbait=1.0)
    unreadable: _Share = 0.05
    fatigue: Fatigue = Fatigue()
    purchase: Logit = Logit(base=-2.0, taste=1.0, quality=0.8, clickbait=-1.5, price=-0.5)
    satisfaction: Logit = Logit(base=0.3, taste=1.5, quality=1.0, clickbait=-2.0)
    rates: _Share = 0.3
    dwell_seconds: _Positive = 60.0
    dwell_growth: float = 2.0
    dwell_spread: _NotNegative = 0.8


class WorldSettings(Section):
    """A world, but for its seed.

    Attributes:
        days: Length of its history.
        start: Unix seconds of its first midnight; in the past, because a service refuses events of the future.
        dimensions: Of the latent space of tastes and items.
        languages: BCP 47 -> what is particular to it.
        people, items, behaviour: The sections.
    """

    days: int = Field(28, ge=1)
    start: int = Field(1_735_689_600, ge=0)
    dimensions: int = Field(8, ge=2)
    languages: dict[str, Language] = {
        "en": Language(share=0.40, countries={"US": 0.6, "GB": 0.4}),
        "zh": Language(share=0.25, countries={"CN": 0.8, "SG": 0.2}),
        "es": Language(share=0.15, countries={"ES": 0.4, "MX": 0.6}),
        "de": Language(share=0.10, countries={"DE": 0.8, "AT": 0.2}),
        "ar": Language(share=0.08, countries={"EG": 0.5, "SA": 0.5}),
        "ko": Language(share=0.02, countries={"KR": 1.0}),
    }
    people: People = People()
    items: Items = Items()
    behaviour: Behaviour = Behaviour()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if abs(sum(each.share for each in self.languages.values()) - 1.0) > 1e-9:
            raise ValueError("the shares of `languages` don't sum to 1")
        for tag, language in self.languages.items():
            if abs(sum(language.countries.values()) - 1.0) > 1e-9:
                raise ValueError(f"the shares of the countries of `{tag}` don't sum to 1")
        if len(self.languages) > min(self.people.count, self.items.count):
            raise ValueError("there are fewer people or items than languages, and each needs one of both")
        if self.days / self.behaviour.fatigue.days > _LARGEST_EXPONENT:
            raise ValueError(f"`behaviour.fatigue.days` is below `days` / {_LARGEST_EXPONENT:.0f}")
        return self


def read_settings(file: Path | None = None, changes: Sequence[str] = ()) -> WorldSettings:
    """Settings from a YAML file, with changes.

    Args:
        file: None: the defaults.
        changes: Such as ``people.count=500``; the value is YAML.

    Raises:
        BabelrecError: Names the key and what is wrong with it.
    """
    try:
        values = {} if file is None else yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise BabelrecError(f"{file} holds no settings. Remedy: write `key: value` lines (docs/simulation.md).")
        settings = _checked(values)
        for change in changes:
            key, equals, value = change.partition("=")
            if not equals:
                raise BabelrecError(f"{change!r} is no change of a setting. Remedy: write it as people.count=500.")
            # From all settings as they are, so that a section keeps its other defaults (`behaviour.attraction.base`).
            values = settings.model_dump()
            _set(values, key.split("."), yaml.safe_load(value))
            settings = _checked(values)
        return settings
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BabelrecError(f"The settings can't be read: {error}. Remedy: give a YAML file.") from error


def _checked(values: Mapping[str, Any]) -> WorldSettings:
    try:
        return WorldSettings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "settings"
        raise BabelrecError(f"`{place}`: {fault['msg']}. Remedy: see docs/simulation.md for the settings.") from error


def _set(values: dict[str, Any], path: Sequence[str], value: object) -> None:
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise BabelrecError(f"`{'.'.join(path)}` is no setting. Remedy: `{part}` is a value, not a section.")
        values = inner
    values[path[-1]] = value
