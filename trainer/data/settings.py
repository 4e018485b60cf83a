"""Settings of the data: its source, what counts as positive, how it is split."""

import codecs
import re
import zoneinfo
from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.config.base import AbsolutePath, Fraction, Settings


class MovieLens100kSource(Settings):
    """MovieLens-100k: 100,000 ratings of films with English titles."""

    name: Literal["movielens-100k"] = "movielens-100k"


class KmrdSource(Settings):
    """KMRD-small: ratings of films with Korean and English titles."""

    name: Literal["kmrd"] = "kmrd"
    path: AbsolutePath | None = Field(None, description="Folder of rates.csv, movies.txt, genres.csv, countries.csv.")
    title_language: Literal["ko", "en", "both"] = Field(
        "ko", description="Language of the items' titles; `both` keeps English as a translation of Korean."
    )


class MindSource(Settings):
    """MIND news impressions, with xMIND translations of the same articles."""

    name: Literal["mind"] = "mind"
    path: AbsolutePath | None = Field(None, description="Folder of behaviors.tsv and news.tsv.")
    translations: list[AbsolutePath] = Field(
        [], description="xMIND files (zip or tsv); the default is every xMIND file in `path`."
    )
    item_language: str | None = Field(
        None, description="Use this language for articles that have a translation; null keeps the original."
    )


class SessionsSource(Settings):
    """Shopping sessions, as in Amazon-M2: the products of a visit in order, people unknown."""

    name: Literal["sessions"] = "sessions"
    path: AbsolutePath | None = Field(None, description="File or folder of the sessions (`items`, or `prev_items`).")
    products: AbsolutePath | None = Field(
        None, description="Table of products (`id`, `locale`, `title`, ...); the default is that of the folder, if any."
    )
    locales: list[str] = Field([], description="Only sessions of these locales, such as `FR`; empty: all.")


class BasketsSource(Settings):
    """Invoice lines of a shop, as in Online Retail: quantities, prices, cancellations."""

    name: Literal["baskets"] = "baskets"
    path: AbsolutePath | None = Field(
        None, description="Workbook or table of invoice lines, or folder of events, items, users."
    )
    language: str = Field("en", description="BCP 47 language of the products' names.")


class MarketsSource(Settings):
    """Ratings of one catalogue in several markets, as in XMarket."""

    name: Literal["markets"] = "markets"
    path: AbsolutePath | None = Field(None, description="Folder of the markets' files, or one table of all.")
    markets: list[str] = Field([], description="Only ratings in these markets, such as `de`; empty: all.")
    catalogue_of: str | None = Field(
        None, description="Only ratings of items that this market has: others help it, and its catalogue stays its own."
    )


class StaysSource(Settings):
    """Inside Airbnb: listings with places and prices, and reviews as stays."""

    name: Literal["stays"] = "stays"
    path: AbsolutePath | None = Field(
        None, description="Folder of listings and reviews (or stays), or of such folders, one for each city."
    )
    cities: list[str] = Field([], description="Only these cities; empty: all.")
    guest_languages: bool = Field(
        False, description="Detect the language of each review, the language of its guest, if there is no column of it."
    )


class NemigSource(Settings):
    """NeMig: news impressions in German and English with Wikidata entities."""

    name: Literal["nemig"] = "nemig"
    path: AbsolutePath | None = Field(None, description="Folder of news_LANGUAGE and behaviors_LANGUAGE.")
    languages: list[str] = Field(["de", "en"], min_length=1, description="Languages to read.")


# Labels that exports write where an item has no category.
PLACEHOLDERS = [
    *("(no genres listed)", "n/a", "#n/a", "none", "null", "nan", "nil", "undefined", "unknown", "uncategorized"),
    *("not specified", "no category", "(none)", "(unknown)", "-", "--", "–", "—", "?", ".", "\\N"),
]


class ColumnMapping(Settings):
    """From the dataset format's column names to the names in the user's files."""

    interactions: dict[str, str] = Field({})
    items: dict[str, str] = Field({})
    users: dict[str, str] = Field({})


class TableFormat(Settings):
    """File format of a tabular source; null: detected where that is safe."""

    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="Column separator; null: by the file extension and the header."
    )
    quote: str | None = Field(
        None, max_length=1, description='Quote character, empty for none; null: `"` in CSV files, none in TSV files.'
    )
    encoding: str | None = Field(
        None, description="Encoding such as `cp1252`, `latin-1` or `shift_jis`; null: the byte order mark's, or UTF-8."
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="Decimal sign of numbers in text; if set, `1.299,00 €` is read too. null: `.`, and `,` where "
        "the columns are separated by `;` and every value of a column fits.",
    )
    null_values: list[str] | None = Field(
        None,
        description="Texts that represent a missing value, in every column, in addition to the usual ones for numbers.",
    )
    time_unit: Literal["s", "ms", "us", "ns", "excel_days", "days"] | None = Field(
        None,
        description="Unit of numeric times, since 1970 (`excel_days`: since 1899-12-30); null: s, ms, us or "
        "ns, by their size.",
    )
    time_format: str | None = Field(
        None, description="strftime format of times that are text: `%d.%m.%Y %H:%M`; null: ISO 8601."
    )
    time_zone: str | None = Field(
        None, description="IANA time zone of times without an offset, such as `Asia/Seoul`; null: UTC."
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                if not codecs.lookup(value)._is_text_encoding:
                    raise LookupError
            except LookupError:
                raise ValueError(f"{value!r} is not a known encoding: try cp1252, utf-16, cp949 or shift_jis") from None
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                zoneinfo.ZoneInfo(value)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(f"{value!r} is not a known time zone: try Europe/Berlin or UTC") from None
        return value

    @field_validator("time_format")
    @classmethod
    def _usable_format(cls, value: str | None) -> str | None:
        if value is not None and "%" not in value:
            raise ValueError(f"{value!r} contains no directive: write one such as %d.%m.%Y %H:%M")
        if value is not None and "%Z" in value:
            raise ValueError("time zone names (%Z) are ambiguous: write offsets (%z), or set time_zone")
        return value


class TableFormats(Settings):
    """`TableFormat` settings of one table that differ from the source's."""

    interactions: TableFormat = TableFormat()
    items: TableFormat = TableFormat()
    users: TableFormat = TableFormat()


class TabularSource(TableFormat):
    """The user's own tables: CSV, TSV, JSONL or Parquet, recognised by their extension."""

    name: Literal["tabular"] = "tabular"
    interactions: AbsolutePath = Field(description="File, or directory of part files.")
    items: AbsolutePath
    users: AbsolutePath | None = None
    columns: ColumnMapping = Field(
        ColumnMapping(), description="By table: name in the dataset format -> column name in the file."
    )
    default_event: str | None = Field(None, description="Event of every interaction when there is no event column.")
    formats: TableFormats = Field(
        TableFormats(), description="By table: overrides of the following settings, `delimiter` to `time_zone`."
    )
    list_separator: str = Field("|", min_length=1, description="Separator inside list columns of CSV files.")
    drop_unknown_items: bool = Field(
        False, description="Drop (and count) interactions whose item is not in the items table; false: an error."
    )
    language: str | None = Field(
        None, description="BCP 47 language of all items without one; null detects each item's language."
    )
    title_pattern: str | None = Field(
        None,
        description="`film` reads `Usual Suspects, The (1995)` as the title `The Usual Suspects` and the number "
        "`year`; or a regular expression that matches whole titles, with the group `title` and optionally `year`; "
        "null: none.",
    )
    category_placeholders: list[str] = Field(
        PLACEHOLDERS,
        description='Category labels that mean "no category" and are dropped, ignoring case. `[]` keeps every label.',
    )

    @field_validator("title_pattern")
    @classmethod
    def _usable_pattern(cls, value: str | None) -> str | None:
        if value is None or value == "film":
            return value
        try:
            groups = set(re.compile(value).groupindex)
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        if "title" not in groups or groups - {"title", "year"}:
            raise ValueError(
                f"{value!r} has the groups {sorted(groups) or 'none'}: write film, or an expression with "
                "(?P<title>...) and optionally (?P<year>...)"
            )
        return value

    def format_of(self, table: Literal["interactions", "items", "users"]) -> TableFormat:
        """File format of a table: its own settings, else those of the source."""
        own = getattr(self.formats, table)
        return TableFormat(
            **{
                name: getattr(self, name) if getattr(own, name) is None else getattr(own, name)
                for name in TableFormat.model_fields
            }
        )


class DatasetSource(Settings):
    """A directory that is already in the dataset format (dataset.yaml and Parquet tables)."""

    name: Literal["dataset"] = "dataset"
    path: AbsolutePath


SOURCES = (
    *(MovieLens100kSource, KmrdSource, MindSource, SessionsSource, BasketsSource, MarketsSource, StaysSource),
    *(NemigSource, TabularSource, DatasetSource),
)
Source = Annotated[
    MovieLens100kSource
    | KmrdSource
    | MindSource
    | SessionsSource
    | BasketsSource
    | MarketsSource
    | StaysSource
    | NemigSource
    | TabularSource
    | DatasetSource,
    Field(discriminator="name"),
]
SOURCE_NAMES = {source.model_fields["name"].default: source for source in SOURCES}


class SplitConfig(Settings):
    """How positives are divided into training, validation and test parts (docs/evaluation.md)."""

    kind: Literal["per_user", "global", "impressions"] = Field(
        "per_user",
        description="`per_user`: each user's last positives; `global`: everything after one time; `impressions`: "
        "everything after the time at which the last impressions begin (P3).",
    )
    test_fraction: Fraction = Field(0.2, description="Share of the positives held out for testing.")
    validation_fraction: Fraction = Field(0.2, description="Share of the training part held out for early stopping.")
    train_users: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Share of users to train on; the others are only queried. For few-shot experiments (P2).",
    )
    min_positives: int = Field(5, ge=1, description="Users with fewer positives are dropped before splitting.")
    min_history: int = Field(
        0,
        ge=0,
        description="With `per_user`: first positives of each user that are never held out, so that users with no more "
        "are only trained on. 1 for sessions and for few events a person, where every request has a history.",
    )
    whole_baskets: bool = Field(
        False,
        description="With `per_user`: what a user does at one second is never divided. The held-out part "
        "grows to whole baskets; the first one is trained on. Otherwise a basket's items count in the order of ids.",
    )
    cold_items: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the items with positives that is held out of training and validation completely; all "
        "their positives are test. For item cold start.",
    )
    cold_seed: int = Field(0, ge=0, description="Seed that selects those items.")


class DataConfig(Settings):
    """The data, and what counts as a positive."""

    source: Source = MovieLens100kSource()
    positives: dict[str, float | None] = Field(
        {"rating": 4.0, "click": None, "purchase": None},
        description="Event -> smallest value that counts as positive (null: every such event).",
    )
    refusals: bool = Field(
        False,
        description="What the user has disliked or hidden since is no positive. Looks ahead, so it is for models that "
        "serve (`update` sets it), not for comparing models on held-out events.",
    )
    split: SplitConfig = SplitConfig()
    category_names: AbsolutePath | None = Field(
        None,
        description="YAML file that maps category label -> language -> names, as users type them; for training queries "
        "and search (`configs/categories/movielens.yaml`).",
    )

    @field_validator("source", mode="before")
    @classmethod
    def _name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value
