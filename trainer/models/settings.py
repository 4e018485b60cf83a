"""Settings of the model: towers, retrieval, ranking, text search and the linear model."""

import logging
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.base import Fraction, Settings

_LOG = logging.getLogger(__name__)


class QueryTowerConfig(Settings):
    """What the query tower looks at; an absent feature is masked, never imputed."""

    user_id: bool = True
    user_dropout: Fraction = Field(0.5, description="Share of training queries whose user id is hidden.")
    history_length: int = Field(50, ge=1, description="Newest items of the history that are read.")
    history_dropout: Fraction = Field(0.1, description="Share of history items hidden in training.")
    time: bool = Field(False, description="Hour of day, day of week and season of the request.")
    feature_dropout: Fraction = Field(0.2, description="Chance to hide language, country or time in training.")


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
    id_dropout: Fraction = Field(0.3, description="Share of items reduced to their content, so that cold items work.")
    language: bool = True
    categories: bool = True
    numeric: list[str] | None = Field(None, description="Numeric item columns; null takes every one of the dataset.")
    numeric_bins: int = Field(8, ge=2, description="Quantile bins of the piecewise linear encoding.")
    embeddings: list[str] | None = Field(None, description="Embedding columns; null takes every one of the dataset.")
    feature_dropout: Fraction = Field(
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
    hidden: list[Annotated[int, Field(ge=1)]] = Field([64])
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
    text_queries: Fraction = Field(
        0.2, description="Share of training queries replaced by the item's own title or category words."
    )
    text_queries_by_category: Fraction = Field(
        0.5, description="Share of the text queries that type a category of the item and not its title."
    )
    search: SearchConfig = SearchConfig()

    @model_validator(mode="before")
    @classmethod
    def _wishes(cls, value: object) -> object:
        """Reads settings of earlier versions, whose ``wishes`` are what ``search`` does now."""
        if not isinstance(value, dict) or "wishes" not in value:
            return value
        _LOG.warning("model.wishes has been removed: text queries are answered by model.search (docs/search.md).")
        return {key: each for key, each in value.items() if key != "wishes"}
